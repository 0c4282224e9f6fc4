# SPDX-License-Identifier: GPL-2.0-only
"""The outer machine's results are read from its disk, whatever is on it."""

import io
import tarfile
from pathlib import Path

import pytest

from harness.errors import HarnessError, UsageError
from harness.nested import results


def disk(tmp_path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    path = tmp_path / "results.img"
    with path.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for info, content in members:
                archive.addfile(info, io.BytesIO(content))
        file.truncate(1 << 20)
    return path


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content), kind, "/etc/passwd"
    return info, content


def test_files_are_unpacked_and_links_are_not(tmp_path: Path) -> None:
    members = [member("./required/exit-code", b"0\n"), member("latest", kind=tarfile.SYMTYPE)]
    results.unpack(disk(tmp_path, *members), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["required", "exit-code"]


def test_nothing_is_written_outside(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="cannot be read: "):
        results.unpack(disk(tmp_path, member("../outside", b"x")), tmp_path / "out")
    assert not (tmp_path / "outside").exists()


def test_devices_are_left_out(tmp_path: Path) -> None:
    results.unpack(
        disk(tmp_path, member("fifo", kind=tarfile.FIFOTYPE), member("null", kind=tarfile.CHRTYPE)), tmp_path
    )
    assert not (tmp_path / "fifo").exists()
    assert not (tmp_path / "null").exists()


def test_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "DISK", 1000)
    with pytest.raises(HarnessError, match="too large: 2 files, 1200 bytes"):
        results.unpack(disk(tmp_path, member("a", bytes(600)), member("b", bytes(600))), tmp_path / "out")


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MOST_FILES", 1)
    with pytest.raises(HarnessError, match="too large: 2 files"):
        results.unpack(disk(tmp_path, member("a"), member("b")), tmp_path / "out")


def test_a_sparse_file_of_any_size_is_left_out(tmp_path: Path) -> None:
    info, _ = member("huge", bytes(512))
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:398], header[398:410] = b"00000000000\0", b"00000001000\0"
    header[483:495] = b"77777777777\0"  # its real size
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:512]))
    path = tmp_path / "results.img"
    path.write_bytes(bytes(header) + bytes(512) + bytes(1 << 16))
    results.unpack(path, tmp_path / "out")
    assert not (tmp_path / "out" / "huge").exists()


@pytest.mark.parametrize("content", [b"\xff" * 4096, b"no archive" * 400])
def test_a_damaged_disk_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "results.img"
    path.write_bytes(content)
    with pytest.raises(HarnessError, match="cannot be read"):
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
