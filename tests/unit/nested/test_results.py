# SPDX-License-Identifier: GPL-2.0-only
"""The outer machine's results are read from its disk, whatever is on it."""

import tarfile
from pathlib import Path

import pytest

from harness.errors import HarnessError, UsageError
from harness.nested import results


def disk(tmp_path: Path, *names: str) -> Path:
    path = tmp_path / "results.img"
    with path.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for name in names:
                archive.addfile(tarfile.TarInfo(name))
        file.truncate(1 << 20)
    return path


def test_the_archive_on_the_disk_is_unpacked(tmp_path: Path) -> None:
    results.unpack(disk(tmp_path, "./required/exit-code", "./rest/machine-1/console.log"), tmp_path / "out")
    assert (tmp_path / "out" / "required" / "exit-code").is_file()
    assert (tmp_path / "out" / "rest" / "machine-1" / "console.log").is_file()


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MOST_FILES", 1)
    with pytest.raises(HarnessError, match="the outer machine's results are too large: 2 files"):
        results.unpack(disk(tmp_path, "a", "b"), tmp_path / "out")


@pytest.mark.parametrize("content", [b"\xff" * 4096, b"no archive" * 400])
def test_a_damaged_disk_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "results.img"
    path.write_bytes(content)
    with pytest.raises(HarnessError, match="the outer machine's results cannot be unpacked"):
        results.unpack(path, tmp_path / "out")


def test_a_run_that_never_started_has_no_results(tmp_path: Path) -> None:
    assert results.read(tmp_path / "rest") is None


def test_a_run_may_end_without_a_record(tmp_path: Path) -> None:
    (tmp_path / "exit-code").write_text("2\n")
    assert results.read(tmp_path) == results.Ended(2, None)


@pytest.mark.parametrize("text", ["", "zero", "\u00b2"])
def test_a_damaged_exit_code_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "exit-code").write_text(text, encoding="utf-8")
    with pytest.raises(HarnessError, match="exit-code: not an exit code"):
        results.read(tmp_path)


def test_a_damaged_record_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "exit-code").write_text("0\n")
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(UsageError, match=r"report\.json"):
        results.read(tmp_path)


def test_a_huge_record_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MOST_REPORT", 10)
    (tmp_path / "exit-code").write_text("0\n")
    (tmp_path / "report.json").write_text("x" * 11)
    with pytest.raises(HarnessError, match="larger than"):
        results.read(tmp_path)
