# SPDX-License-Identifier: GPL-2.0-only
"""The directories of the harness."""

import os
from pathlib import Path

import pytest

from harness import paths
from harness.errors import HarnessError


def test_a_directory_that_can_be_made_is_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths.require_writable(Path("results"))
    paths.require_writable(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())


def test_a_directory_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HarnessError, match="file/results: cannot be written") as caught:
        paths.require_writable(tmp_path / "file" / "results")
    assert "VFIO_HARNESS_RESULTS" in str(caught.value.hint)


def test_a_read_only_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for access(2), as root may write everywhere."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(HarnessError, match="results: cannot be written"):
        paths.require_writable(tmp_path / "results")


def test_a_file_of_the_data_and_one_of_the_package_have_their_names_of_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "harness")
    monkeypatch.setattr(paths, "TOP", tmp_path / "harness" / "data")
    assert paths.name_in_checkout(tmp_path / "harness" / "data" / "vm-configs" / "a.yaml") == Path("vm-configs/a.yaml")
    assert paths.name_in_checkout(tmp_path / "harness" / "image" / "a.py") == Path("harness/image/a.py")
