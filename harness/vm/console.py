# SPDX-License-Identifier: GPL-2.0-only
"""Read the guest's serial console from the file to which QEMU writes it."""

import re
import time
from collections.abc import Callable
from pathlib import Path

from harness.escape import escaped
from harness.vm.process import tail

POLL_S = 0.005
"""Interval of polling; a file sends no event, and a look costs 10 us."""
SHOWN = 64 * 1024


class Console:
    """The recording of a console. ``path`` holds raw bytes; what the methods return is bounded and escaped."""

    def __init__(self, path: Path, check: Callable[[], None]) -> None:
        """``check`` is called while waiting, and raises if the guest is lost."""
        self.path = path
        self._check = check

    def mark(self) -> int:
        """Return the present end of the console as a byte offset."""
        return self.path.stat().st_size if self.path.exists() else 0

    def since(self, mark: int, limit: int = SHOWN) -> str:
        """Return what was printed after ``mark``. Of more than ``limit`` bytes, it returns both ends."""
        raw = self._read(mark, limit + 1)
        if len(raw) <= limit:
            return escaped(raw)
        end = self.mark()
        head, last = raw[: limit // 2], self._read(end - limit // 2, limit // 2)
        return f"{escaped(head)}\n[... {end - mark - 2 * (limit // 2)} bytes left out ...]\n{escaped(last)}"

    def tail(self, limit: int = 4096) -> str:
        """Return the last ``limit`` bytes."""
        return tail(self.path, limit)

    def wait_for(self, *wanted: bytes, timeout: float, since: int = 0) -> bytes:
        """Wait until the guest has printed one of ``wanted`` after ``since``, and return that one.

        Raises TimeoutError after ``timeout`` seconds, or what ended the machine.
        """
        deadline = time.monotonic() + timeout
        longest = max(map(len, wanted))
        position = since
        kept = b""
        while True:
            fresh = self._read(position, SHOWN)
            position += len(fresh)
            kept = kept[-longest:] + fresh
            if found := next((word for word in wanted if word in kept), None):
                return found
            if not fresh:
                self._check()
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the console did not show {wanted[0].decode()!r} within {timeout:.1f} s")
                time.sleep(POLL_S)

    def wait_while_printing(self, *wanted: bytes, timeout: float, quiet: float, most: float) -> bytes:
        """Wait like ``wait_for``, but for up to ``most`` seconds if the guest prints something every ``quiet`` seconds.

        That is counted from ``timeout`` on: before it, the guest may be silent."""
        started = time.monotonic()
        while True:
            mark = self.mark()
            try:
                return self.wait_for(*wanted, timeout=timeout)
            except TimeoutError:
                if self.mark() == mark or time.monotonic() - started > most:
                    raise
            timeout = quiet

    def says(self, word: bytes, since: int) -> bool:
        """Return whether ``word`` is in the first ``SHOWN`` bytes that the guest printed after ``since``."""
        return word in self._read(since, SHOWN)

    def printed_at(self, line: bytes) -> float | None:
        """Return the kernel's time of a line of the log, in seconds since its start. None without printk's time."""
        found = re.search(rb"^\[ *(\d{1,9}\.\d{6})\] " + re.escape(line), self._read(0, SHOWN), re.MULTILINE)
        return float(found[1]) if found else None

    def wait_quiet(self, quiet: float, timeout: float) -> None:
        """Wait until nothing was printed for ``quiet`` seconds. Raises TimeoutError after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        size, since = self.mark(), time.monotonic()
        while time.monotonic() - since < quiet:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the console was not quiet for {quiet:g} s within {timeout:g} s")
            time.sleep(POLL_S)
            if (now := self.mark()) != size:
                size, since = now, time.monotonic()

    def _read(self, offset: int, size: int) -> bytes:
        try:
            with self.path.open("rb") as file:
                file.seek(max(offset, 0))
                return file.read(size)
        except FileNotFoundError:
            return b""
