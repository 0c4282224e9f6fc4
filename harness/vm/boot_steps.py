# SPDX-License-Identifier: GPL-2.0-only
"""When each step of a boot was done, by the host's clock and by the kernel's log."""

import os
import time
from operator import itemgetter

from harness.errors import HarnessError
from harness.vm.console import Console

INIT_STARTS = b"Run /sbin/vfio-harness-init"
LISTENING = b"vfio-harness: listening"
READY = b"vfio-harness: ready"
INIT_FAILED = b"vfio-harness: init failed"
"""Lines of the guest's init: SSH can be reached; all modules are loaded as well; init has failed."""

PRINTED = {
    b"Linux version": "the kernel starts",
    INIT_STARTS: "init starts",
    LISTENING: "the SSH server listens",
    READY: "the modules are loaded",
}
"""Lines of the kernel's log, and the steps that end with them."""
QEMU_ANSWERS = "QEMU answers"
"""The first step of a boot."""
STARTS = 60.0
"""The deadline of a boot on a slow host, in starts of QEMU: 0.2 s on an idle one, 2 to 5 s in an emulated machine."""
FAST_CLOCK = 1.5
"""The guest's seconds in a second of the host from which on its clock is useless. A good one differs by 1 %."""


class BootSteps:
    """The clock of one boot. It starts when the object is made, just before QEMU does."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._kernel_started = 0.0
        self.seconds: dict[str, float] = {}
        """When each step was done, in seconds since the start."""

    def deadline(self, seconds: float) -> float:
        """Return how long a boot may take: ``seconds`` on an idle host, more on a slow or busy one."""
        slow = max(seconds, STARTS * self.seconds[QEMU_ANSWERS])
        return slow * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))

    def done(self, step: str) -> float:
        """Note that a step is done. Returns the seconds since the start."""
        self.seconds[step] = time.monotonic() - self._started
        return self.seconds[step]

    def listening(self, console: Console) -> float:
        """Note that the kernel has just printed LISTENING. Returns the seconds since the start.

        Raises HarnessError if the guest's clock is too fast for the deadlines of the cases: a kernel whose TSC
        calibration is disturbed may rate the TSC too low (arch/x86/kernel/tsc.c, "PIT calibration deviates from").
        """
        here, there = self.done(PRINTED[LISTENING]), console.printed_at(LISTENING) or 0.0
        if there > FAST_CLOCK * here:
            raise HarnessError(
                f"the guest's clock is too fast: its boot took {there:.1f} s there, and {here:.1f} s on the host",
                hint="run again: on a busy host the kernel calibrates its clock wrongly once in a while",
            )
        self._kernel_started = here - there
        return here

    def read_log(self, console: Console) -> None:
        """Note the steps that the kernel has printed, where its log has times."""
        for line, step in PRINTED.items():
            if (printed := console.printed_at(line)) is not None:
                self.seconds[step] = self._kernel_started + printed

    def in_order(self) -> dict[str, float]:
        """Return when each step was done, first the first."""
        return dict(sorted(self.seconds.items(), key=itemgetter(1)))
