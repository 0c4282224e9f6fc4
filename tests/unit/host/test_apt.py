# SPDX-License-Identifier: GPL-2.0-only
"""apt with a state directory of its own."""

from pathlib import Path

import pytest

from harness.errors import MissingPrerequisite
from harness.host.apt import Apt, Available, parse_madison


def test_a_line_of_madison_names_package_version_and_suite() -> None:
    lines = ["qemu | 1:10.0.13+ds-0+deb13u1 | http://deb.debian.org/debian trixie/main amd64 Packages", "", "N: none"]
    assert list(parse_madison(lines)) == [Available("qemu", "1:10.0.13+ds-0+deb13u1", "trixie")]


def test_its_state_is_in_its_directory_and_its_sources_are_signed(tmp_path: Path) -> None:
    keyring = tmp_path / "keys.gpg"
    keyring.touch()
    Apt(tmp_path / "apt", str(keyring), ["http://mirror/debian trixie main"])
    sources = (tmp_path / "apt/sources.list").read_text()
    assert sources == f"deb [signed-by={keyring}] http://mirror/debian trixie main\n"
    conf = (tmp_path / "apt/apt.conf").read_text()
    assert f'Dir::State "{tmp_path}/apt";' in conf
    assert 'Dir::Etc::sourceparts "-";' in conf


def test_a_missing_keyring_is_named_with_its_package(tmp_path: Path) -> None:
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    with pytest.raises(MissingPrerequisite, match=r"nowhere\.gpg is missing"):
        Apt(tmp_path, str(tmp_path / "nowhere.gpg"), [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "is_file", lambda path: False)
        with pytest.raises(MissingPrerequisite) as caught:
            Apt(tmp_path, keyring, [])
    assert caught.value.hint == "apt-get install debian-archive-keyring"
