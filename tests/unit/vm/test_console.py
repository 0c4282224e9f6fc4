# SPDX-License-Identifier: GPL-2.0-only
"""Test reading the console, a file that grows meanwhile."""

import threading
import time
from pathlib import Path

import pytest

from harness.errors import GuestCrashed
from harness.vm.console import Console


def alive() -> None:
    """The machine is not lost."""


def test_wait_sees_present_and_later_output(tmp_path: Path) -> None:
    file = tmp_path / "console"
    console = Console(file, alive)
    assert console.mark() == 0

    def guest() -> None:
        with file.open("wb", buffering=0) as out:
            for part in (b"boot\nvfio-har", b"ness: re", b"ady\n"):
                out.write(part)
                time.sleep(0.02)

    writer = threading.Thread(target=guest)
    writer.start()
    assert console.wait_for(b"init failed", b"harness: ready", timeout=5) == b"harness: ready"
    writer.join()
    assert console.wait_for(b"boot", timeout=0) == b"boot"
    with pytest.raises(TimeoutError, match="did not show 'boot'"):
        console.wait_for(b"boot", timeout=0, since=5)


def test_a_guest_that_still_prints_gets_more_time(tmp_path: Path) -> None:
    file = tmp_path / "console"
    console = Console(file, alive)

    def guest(lines: int) -> None:
        with file.open("ab", buffering=0) as out:
            for _ in range(lines):
                out.write(b"slow\n")
                time.sleep(0.1)
            out.write(b"ready\n")

    writer = threading.Thread(target=guest, args=(10,))
    writer.start()
    assert console.wait_while_printing(b"ready", timeout=0.3, quiet=0.3, most=60) == b"ready"
    writer.join()
    with pytest.raises(TimeoutError):  # silent
        console.wait_while_printing(b"never", timeout=0.1, quiet=0.1, most=60)
    writer = threading.Thread(target=guest, args=(10,))
    writer.start()
    with pytest.raises(TimeoutError):  # it prints for ever
        console.wait_while_printing(b"never", timeout=0.2, quiet=0.2, most=0.5)
    writer.join()


def test_wait_ends_with_the_guest(tmp_path: Path) -> None:
    def lost() -> None:
        raise GuestCrashed("panic")

    with pytest.raises(GuestCrashed, match="panic"):
        Console(tmp_path / "console", lost).wait_for(b"ready", timeout=60)


def test_since_is_bounded_and_escaped(tmp_path: Path) -> None:
    file = tmp_path / "console"
    console = Console(file, alive)
    file.write_bytes(b"old\n")
    mark = console.mark()
    with file.open("ab") as out:
        out.write(b"\x1b[31mred\n")
    assert console.since(mark) == "\\x1b[31mred\n"
    with file.open("ab") as out:
        out.write(b"x" * 1000 + b"end")
    text = console.since(mark, limit=20)
    assert text.startswith("\\x1b[31mred\nx\n[... ")
    assert text.endswith("xxxxxxxend")
    assert f"[... {console.mark() - mark - 20} bytes left out ...]" in text


def test_printed_at(tmp_path: Path) -> None:
    file = tmp_path / "console"
    file.write_bytes(b"[    0.000000] Linux\r\n[  509.037764] vfio-harness: listening\r\nvfio-harness: ready\r\n")
    console = Console(file, alive)
    assert console.printed_at(b"vfio-harness: listening") == 509.037764
    assert console.printed_at(b"vfio-harness: ready") is None
