# SPDX-License-Identifier: GPL-2.0-only
"""Fail each memory allocation of a call in turn (Documentation/fault-injection, "fail-nth").

Needs CONFIG_FAILSLAB and CONFIG_FAULT_INJECTION_DEBUG_FS; CONFIG_FAIL_PAGE_ALLOC adds the page allocator.

``each_failing`` serves cases about one call. ``begin`` and ``end`` surround a whole case: in between, each call that
``acting`` runs and the host has listed is repeated with its first allocation failing, then with its second, and so on,
as long as it is refused. Once it succeeds in spite of the failure, the case goes on with that result. The host then
runs the case again, and that call begins with the next allocation.
"""

import errno
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, TypeVar

from . import files
from .poll import Stuck
from .vmstat import pins

DEBUGFS = "/sys/kernel/debug"
ATTRIBUTES = {"failslab": {"ignore-gfp-wait": "N"}, "fail_page_alloc": {"ignore-gfp-wait": "N", "min-order": "0"}}
"""Files of debugfs that let every allocation fail, also those that may sleep (lib/fault-inject.c)."""
FAIL_NTH = "/proc/thread-self/fail-nth"
"""Write n, and the nth allocation of this thread from now on fails (fs/proc/base.c)."""
BUFINFO = f"{DEBUGFS}/dma_buf/bufinfo"
MODULES = "/proc/modules"
KALLSYMS = "/proc/kallsyms"
INTERPRETER = ("acpi_ds_", "acpi_ut_")
"""The kernel's interpreter of ACPI code lies from the first function of the one prefix to the last of the other, since
drivers/acpi/acpica links its files by name. If its allocations fail it uses objects that it has freed: reports about
its users would not be about them."""
MOST_ALLOCATIONS = 1000

T = TypeVar("T")


class Armed:
    """A failure that waits for this thread's nth allocation."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._file = -1
        self.fired = False
        """Whether the allocation has failed. Valid after the block."""

    def __enter__(self) -> "Armed":
        self._file = os.open(FAIL_NTH, os.O_RDWR | os.O_CLOEXEC)
        os.write(self._file, b"%d" % self._number)
        return self

    def __exit__(self, *exc: object) -> None:
        self.fired = os.pread(self._file, 16, 0).strip() == b"0"
        os.write(self._file, b"0")
        os.close(self._file)


class Sweep:
    """The failures of one pass of a case.

    ``allowed``: each listed call, and the errnos with which it may refuse for want of memory. ``first``: the number of
    the allocation with which each call begins, 0 for a call that is done; a call that is not named begins with 1.
    """

    def __init__(self, allowed: dict[str, list[str]], first: dict[str, int]) -> None:
        self._allowed = {call: {getattr(errno, name) for name in names} for call, names in allowed.items()}
        self._first = first
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()
        self.next: dict[str, int] = {}
        self.refused: Counter[str] = Counter()
        self.survived: list[str] = []
        self.left: list[str] = []

    def lists(self, call: str) -> bool:
        """Return whether the allocations of ``call`` fail."""
        return call in self._allowed

    def run(self, call: str, function: Callable[[], T]) -> T:
        """Call ``function``, with one allocation after the other failing while it is refused for that."""
        with self._lock:
            self._seen[call] += 1
            site = f"{call} {self._seen[call]}"
        first = self._first.get(site, 1)
        if not first:
            self.next[site] = 0
            return function()
        before = _counts()
        for number in range(first, MOST_ALLOCATIONS):
            armed = Armed(number)
            try:
                with armed:
                    result = function()
            except OSError as exc:
                if armed.fired and exc.errno in self._allowed[call]:
                    self.refused[site] += 1
                    before = self._compare(f"{site}, allocation {number}", before)
                    continue
                self._went_on(site, number, armed.fired)
                raise
            self._went_on(site, number, armed.fired)
            return result
        raise Stuck(f"{call} makes over {MOST_ALLOCATIONS} allocations")

    def _went_on(self, site: str, number: int, fired: bool) -> None:
        self.next[site] = number + 1 if fired else 0
        if fired:
            self.survived.append(f"{site}, allocation {number}")

    def _compare(self, what: str, before: dict[str, str]) -> dict[str, str]:
        """Report what the call has left. Returns the present counts."""
        after = _counts()
        if before and after:
            changed = {key: (before.get(key), after.get(key)) for key in sorted({*before, *after})}
            self.left += [f"{what}: {key} was {old}, is {new}" for key, (old, new) in changed.items() if old != new]
        return after


_sweeps: list[Sweep] = []
"""The sweep of the present pass, if there is one."""
_thread = threading.local()


def begin(allowed: dict[str, list[str]], first: dict[str, int]) -> None:
    """Begin a pass of a case; see ``Sweep``."""
    _let_all_fail()
    _sweeps[:] = [Sweep(allowed, first)]


def end() -> dict[str, Any]:
    """End the pass.

    ``next``: where each call begins in the next pass; 0 if no failure is left to try. ``refused``: how many failures
    refused each call. ``survived``: the failures that did not. ``left``: the references, dma-bufs and pinned pages
    that a refused call left behind.
    """
    sweep = _sweeps.pop()
    return {"next": sweep.next, "refused": dict(sweep.refused), "survived": sweep.survived, "left": sweep.left}


def stop() -> None:
    """Let no more allocations of this process fail. Only root may open FAIL_NTH."""
    _sweeps.clear()


def acting(call: str, function: Callable[[], T]) -> T:
    """Call ``function``, the system call ``call``; during a pass, with failing allocations if it is listed."""
    if not _sweeps or getattr(_thread, "busy", False) or not _sweeps[-1].lists(call):
        return function()
    with _busy():
        return _sweeps[-1].run(call, function)


def refusal(call: Callable[[], object]) -> int:
    """Call ``call``. Returns 0, or ``-errno`` if it is refused."""
    try:
        call()
    except OSError as exc:
        return -int(exc.errno or 0)
    return 0


def each_failing(call: Callable[[], int], times: int = 1) -> list[int]:
    """Call ``call`` with its first allocation failing, then with its second, and so on, ``times`` times each.

    Returns each last result; in the final one no allocation failed. Raises Stuck after MOST_ALLOCATIONS.
    """
    _let_all_fail()
    outcomes = []
    with _busy():
        for number in range(1, MOST_ALLOCATIONS):
            armed = Armed(number)
            for _ in range(times):
                with armed:
                    outcome = call()
            outcomes.append(outcome)
            if not armed.fired:
                return outcomes
    raise Stuck(f"the call makes over {MOST_ALLOCATIONS} allocations")


@contextmanager
def _busy() -> Iterator[None]:
    """Keep ``acting`` from sweeping inside a sweep of this thread."""
    _thread.busy = True
    try:
        yield
    finally:
        _thread.busy = False


def _let_all_fail() -> None:
    start, end = _interpreter()
    common = {"verbose": "0", "reject-start": hex(start), "reject-end": hex(end)}
    for attribute, values in ATTRIBUTES.items():
        for name, value in {**common, **values}.items():
            with suppress(FileNotFoundError):  # a kernel without CONFIG_FAIL_PAGE_ALLOC, or without the stack filter
                files.write(f"{DEBUGFS}/{attribute}/{name}", value)


@cache
def _interpreter() -> tuple[int, int]:
    """Return the first and the last address of ``INTERPRETER``."""
    rows = (line.split() for line in files.read_text(KALLSYMS).splitlines())
    found = [(int(address, 16), name) for address, kind, name, *_ in rows if kind in "tT" and "." not in name]
    first, last = ([address for address, name in found if name.startswith(prefix)] for prefix in INTERPRETER)
    return min(first, default=0), max(last, default=0)


def _counts() -> dict[str, str]:
    """Return what a refused call may not change: dma-bufs, pinned pages, and the modules' reference counts.

    Empty while another thread of the agent acts: its calls change the counts, and a revoke that waits holds the locks
    that bufinfo takes.
    """
    if threading.active_count() > 1:
        return {}
    counts = {fields[0]: fields[2] for fields in map(str.split, files.read_text(MODULES).splitlines())}
    dma_bufs = files.read_text(BUFINFO).rpartition("\nTotal ")[2].strip()
    return counts | {"dma-bufs": dma_bufs, "pinned pages": str(pins())}
