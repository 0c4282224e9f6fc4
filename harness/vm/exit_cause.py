# SPDX-License-Identifier: GPL-2.0-only
"""What became of a VM: its end, if it had one, by its first cause and with the evidence."""

import concurrent.futures
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from harness.errors import GuestCrashed, GuestLost, HarnessError, QemuDied
from harness.escape import escaped
from harness.vm.qmp import Event

STOPPED_FOR_GOOD: Mapping[str, type[GuestCrashed] | type[QemuDied]] = {
    "internal-error": GuestCrashed,  # KVM could not go on with what the guest did
    "io-error": QemuDied,  # the host could not read or write a drive
}
"""Run states that come with a STOP event and from which nothing resumes; ``paused`` is somebody's QMP stop."""
PANIC_TAIL = 64 * 1024
"""Room for the oops, and the other CPUs' backtraces, around a panic's line."""
EXHAUSTED = "System is deadlocked on memory"
"""The panic of a guest with nothing left to kill (mm/oom_kill.c): a machine too small for what was done in it."""
CONSOLE_NOTE = 16 * 1024
SETTLE_S = 1.0


class ExitCause:
    """Told what happens by QEMU's events, run state and exit; asked by whoever waits for the guest."""

    def __init__(self, console_tail: Callable[[int], str], stderr_tail: Callable[[], str]) -> None:
        self._console_tail = console_tail
        self._stderr_tail = stderr_tail
        self._lost: Future[None] = Future()
        self._lock = threading.Lock()
        self._sealed = False
        self._reset_expected = False

    @property
    def lost(self) -> HarnessError | GuestLost | None:
        """What ended the VM, if anything did."""
        error = self._lost.exception() if self._lost.done() else None
        assert error is None or isinstance(error, HarnessError | GuestLost)
        return error

    def check(self) -> None:
        """Raise what ended the VM, if anything did."""
        if error := self.lost:
            raise error

    def wait(self, other: Future[Any], seconds: float) -> None:
        """Wait for the VM's end or ``other``, whichever is first, but at most ``seconds``."""
        waited: set[Future[Any]] = {other, self._lost}
        concurrent.futures.wait(waited, seconds, return_when=concurrent.futures.FIRST_COMPLETED)

    def settled(self) -> bool:
        """Whether the VM is lost, judged once QEMU has had a moment to say so: its end may first show as a broken
        connection."""
        concurrent.futures.wait([self._lost], SETTLE_S)
        return self._lost.done()

    @contextmanager
    def expecting_reset(self) -> Iterator[None]:
        """A reset that the guest makes inside the block is no crash."""
        self._reset_expected = True
        try:
            yield
        finally:
            self._reset_expected = False

    def seal(self) -> None:
        """What happens from now on is our own doing."""
        self._sealed = True

    def on_event(self, event: Event) -> None:
        """Judge a QMP event."""
        by_guest = bool(event.data.get("guest"))
        reason = escaped(str(event.data.get("reason", "")).encode())
        match event.name:
            case "GUEST_PANICKED":
                self._lose(self._crash("the guest's kernel panicked"))
            case "SHUTDOWN" if by_guest:
                self._lose(self._crash(f"the guest shut down by itself ({reason})"))
            case "RESET" if by_guest and not self._reset_expected:
                self._lose(self._crash(f"the guest reset by itself ({reason})"))
            case "RESET" if not by_guest:
                self._lose(HarnessError(f"the machine was reset from outside ({reason})"))

    def on_stop(self, run_state: str) -> None:
        """Judge the run state after a STOP event, which gives no reason."""
        if kind := STOPPED_FOR_GOOD.get(run_state):
            self._lose(kind(f"QEMU stopped the guest: run state {run_state}"))

    def on_exit(self, how: str) -> None:
        """QEMU has left, and no event before has said why."""
        self._lose(QemuDied(f"QEMU is gone: {how}"))

    def on_host(self, error: HarnessError) -> None:
        """The host can no longer run the VM as it should."""
        self._lose(error)

    def _lose(self, error: HarnessError | GuestLost) -> None:
        """The first cause counts; later ones follow from it."""
        with self._lock:
            if self._sealed or self._lost.done():
                return
            error.add_note(f"console:\n{self._console_tail(CONSOLE_NOTE)}")
            if said := self._stderr_tail():
                error.add_note(f"QEMU's stderr:\n{said}")
            self._lost.set_exception(error)

    def _crash(self, otherwise: str) -> GuestCrashed | HarnessError:
        """The guest's own end; ``otherwise`` says what it was, if no panic is on the console."""
        found = re.search(r"Kernel panic - .*", self._console_tail(PANIC_TAIL))
        if found and EXHAUSTED in found[0]:
            return HarnessError(f"the guest ran out of memory: {found[0].strip()}")
        return GuestCrashed(found[0].strip() if found else otherwise)
