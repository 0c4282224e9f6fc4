# SPDX-License-Identifier: GPL-2.0-only
"""An archive of somebody else writes nothing outside its directory, and not too much."""

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.host.tar import unpack_files


def archive(*members: tuple[str, bytes, bytes]) -> io.BytesIO:
    """Make an archive of members: name, content and type."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content, kind in members:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(content), kind, "/etc/passwd"
            tar.addfile(info, io.BytesIO(content))
    file.seek(0)
    return file


def unpack(source: io.BytesIO, directory: Path, **limits: Any) -> None:
    unpack_files(source, directory, "they", **{"most_bytes": 1000, "most_files": 2, **limits})


def test_files_are_written_with_their_directories(tmp_path: Path) -> None:
    unpack(archive(("./a/b", b"1", tarfile.REGTYPE), ("c", b"", tarfile.DIRTYPE)), tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["a", "a/b"]
    assert (tmp_path / "a" / "b").read_bytes() == b"1"


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside"])
def test_nothing_is_written_outside(tmp_path: Path, name: str) -> None:
    with pytest.raises(HarnessError, match=r"^they hold what they must not: "):
        unpack(archive((name, b"x", tarfile.REGTYPE)), tmp_path / "in")
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_only_files_are_accepted(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(HarnessError, match=r"^they hold what they must not: 'a'$"):
        unpack(archive(("a", b"", kind)), tmp_path)


def test_too_much_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"^they are too large: 2 files"):
        unpack(archive(("a", bytes(600), tarfile.REGTYPE), ("b", bytes(600), tarfile.REGTYPE)), tmp_path)
    with pytest.raises(HarnessError, match=r"^they are too large: 2 files"):
        unpack(archive(("a", b"", tarfile.REGTYPE), ("b", b"", tarfile.REGTYPE)), tmp_path, most_files=1)


def test_a_sparse_file_counts_with_the_size_that_it_would_have(tmp_path: Path) -> None:
    info = tarfile.TarInfo("huge")
    info.size, info.type = 512, tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:398], header[398:410] = b"00000000000\0", b"00000001000\0"
    header[483:495] = b"77777777777\0"
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:512]))
    with pytest.raises(HarnessError, match=r"^they are too large: 1 files, 8191 MiB"):
        unpack(io.BytesIO(bytes(header) + bytes(512) + bytes(1024)), tmp_path)


@pytest.mark.parametrize("content", [b"\xff" * 4096, b"no archive" * 400])
def test_a_damaged_archive_is_an_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(HarnessError, match=r"^they cannot be unpacked: "):
        unpack(io.BytesIO(content), tmp_path)
