# SPDX-License-Identifier: GPL-2.0-only
"""Find the first cause of a VM's end, with its evidence."""

import concurrent.futures
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from harness.errors import AgentLost, GuestCrashed, GuestLost, HarnessError, QemuDied
from harness.escape import escaped
from harness.vm.qmp import Event

STOPPED_FOR_GOOD: Mapping[str, type[GuestCrashed] | type[HarnessError]] = {
    "internal-error": GuestCrashed,  # KVM cannot continue the guest
    "io-error": QemuDied,  # the host could not read or write a drive
}
"""Run states that come with a STOP event and from which nothing resumes; ``paused`` comes from a QMP stop."""
PANIC_TAIL = 64 * 1024
"""Bytes that hold a panic's line with the oops and the other CPUs' backtraces around it."""
OOPS = re.compile(
    r"(?:Oops: |unable to handle )(?:.*\n){1,20}?.*(?:RIP: [0-9a-f]{4}:|pc : )(?P<function>\w{1,60})[\w.]{0,20}\+0x"
)
"""The first lines of an Oops, to the function that it is in (show_ip() of x86, show_regs_print_info() of arm64)."""
EXHAUSTED = "System is deadlocked on memory"
"""The panic of a guest with no task left to kill (mm/oom_kill.c): the machine is too small for its work."""
KILLED = re.compile(r"Out of memory: Killed process \d+ \((?:agent|python3|dropbear)\)")
"""The kernel's line about the agent or SSH's server, which it kills last (mm/oom_kill.c)."""
CONSOLE_NOTE = 16 * 1024
SETTLE_S = 1.0


class ExitCause:
    """The first cause of a VM's end, judged from QEMU's events, run state and exit."""

    def __init__(
        self, console_tail: Callable[[int], str], stderr_tail: Callable[[], str], *, emulated_kvm: bool = False
    ) -> None:
        """``emulated_kvm``: the VM runs under a KVM whose virtualisation is emulated."""
        self._emulated_kvm = emulated_kvm
        self._console_tail = console_tail
        self._stderr_tail = stderr_tail
        self._lost: Future[None] = Future()
        self._lock = threading.Lock()
        self._sealed = False
        self._reset_expected = False

    @property
    def lost(self) -> HarnessError | GuestLost | None:
        """What ended the VM, or None."""
        error = self._lost.exception() if self._lost.done() else None
        assert error is None or isinstance(error, HarnessError | GuestLost)
        return error

    def check(self) -> None:
        """Raise what ended the VM, if it has ended."""
        if error := self.lost:
            raise error

    def wait(self, other: Future[Any], seconds: float) -> None:
        """Wait for the VM's end or ``other``, for at most ``seconds``."""
        waited: set[Future[Any]] = {other, self._lost}
        concurrent.futures.wait(waited, seconds, return_when=concurrent.futures.FIRST_COMPLETED)

    def settled(self) -> bool:
        """Return whether the VM is lost, after giving QEMU ``SETTLE_S`` to report it.

        A broken connection may be the first sign of a VM's end.
        """
        concurrent.futures.wait([self._lost], SETTLE_S)
        return self._lost.done()

    @contextmanager
    def expecting_reset(self) -> Iterator[None]:
        """Do not judge a reset that the guest makes inside the block as a crash."""
        self._reset_expected = True
        try:
            yield
        finally:
            self._reset_expected = False

    def when_lost(self, callback: Callable[[BaseException], None]) -> None:
        """Call ``callback`` with what ended the VM, on the thread that noticed it."""
        self._lost.add_done_callback(lambda lost: callback(lost.exception() or AssertionError("it has no result")))

    def seal(self) -> None:
        """Ignore what happens from now on: the harness ends the VM."""
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
        """Judge the run state after a STOP event, which has no reason of its own."""
        if kind := STOPPED_FOR_GOOD.get(run_state):
            kind = HarnessError if self._emulated_kvm and kind is GuestCrashed else kind
            self._lose(kind(f"QEMU stopped the guest: run state {run_state}"))

    def on_exit(self, how: str) -> None:
        """Judge QEMU's exit, which no event before it has explained."""
        self._lose(QemuDied(f"QEMU is gone: {how}"))

    def of_agent(self, lost: AgentLost) -> AgentLost:
        """Return why the agent ended in a guest that is alive: ``lost``, or that the kernel killed it for memory."""
        killed = KILLED.search(self._console_tail(PANIC_TAIL))
        return AgentLost(f"the guest ran out of memory: {killed[0]}; {lost}") if killed else lost

    def on_host(self, error: HarnessError) -> None:
        """Record that the host can no longer run the VM as it should."""
        self._lose(error)

    def _lose(self, error: HarnessError | GuestLost) -> None:
        """Keep ``error`` if it is the first: later ones follow from it."""
        with self._lock:
            if self._sealed or self._lost.done():
                return
            error.add_note(f"console:\n{self._console_tail(CONSOLE_NOTE)}")
            if said := self._stderr_tail():
                error.add_note(f"QEMU's stderr:\n{said}")
            self._lost.set_exception(error)

    def _crash(self, otherwise: str) -> GuestCrashed | HarnessError:
        """Return the error for a guest that ended itself. ``otherwise`` is the message if the console has no panic."""
        console = self._console_tail(PANIC_TAIL)
        found = re.search(r"Kernel panic - .*", console)
        if found and EXHAUSTED in found[0]:
            return HarnessError(f"the guest ran out of memory: {found[0].strip()}")
        if found and (oops := OOPS.search(console)):
            return GuestCrashed(f"{found[0].strip()}, after an Oops in {oops['function']}")
        if not found and self._emulated_kvm:
            return HarnessError(f"{otherwise} and did not panic: an emulated KVM does that to a good kernel, too")
        return GuestCrashed(found[0].strip() if found else otherwise)
