# SPDX-License-Identifier: GPL-2.0-only
"""The table of host packages: well-formed, complete, and read alike by Python and by the shell."""

import os
import subprocess
from pathlib import Path

import pytest

from harness.config import architectures
from harness.errors import MissingPrerequisite
from harness.host import packages
from harness.host.packages import install_line, prerequisites, require

WHEN = {"needed", "optional", "bugs", "test", "manual", *architectures()}


def test_each_line_is_complete() -> None:
    for package in packages.packages():
        assert package.when in WHEN, package
        assert package.reason, package


def test_a_program_has_one_package() -> None:
    used = [name for package in packages.packages() for name in package.used]
    assert len(used) == len(set(used))


def test_the_install_line_has_each_package_once() -> None:
    assert install_line(["gelf.h", "libelf.h", "mkfs.erofs"]) == "apt-get install erofs-utils libelf-dev"


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find", lambda program: None)
    with pytest.raises(MissingPrerequisite, match="spatch is not installed") as error:
        require("spatch")
    assert error.value.hint == "apt-get install coccinelle"


def test_only_needed_packages_are_required() -> None:
    optional = {found.name: found.optional for found in prerequisites()}
    assert not optional["gcc"]
    assert not optional["libc.a"]
    assert optional["ccache"] == "faster rebuilds"
    assert optional["spatch"]
    assert optional["aarch64-linux-gnu-gcc"]


def test_a_foreign_machine_needs_its_cross_compiler() -> None:
    cross = {found.name: found.optional for found in prerequisites("arm64") if found.package.endswith("-cross")}
    assert cross == {"/usr/aarch64-linux-gnu/lib/libc.a": ""}


@pytest.mark.parametrize("words", [[], ["bugs"], ["test", "bugs"]])
def test_the_shell_installs_by_the_same_table(tmp_path: Path, words: list[str]) -> None:
    """No package counts as installed here, so the script lists all that it would install."""
    for name, text in {"dpkg-query": "exit 1", "id": "echo 1000", "sudo": "exit 1"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    script = packages.TABLE.with_name("install-packages.sh")
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    result = subprocess.run(["sh", script, *words], env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    listed = result.stderr.strip().splitlines()[-1].split()
    wanted = [each.name for each in packages.packages() if each.when in {"needed", "optional", *words}]
    assert listed[listed.index("-y") + 1 :] == wanted
