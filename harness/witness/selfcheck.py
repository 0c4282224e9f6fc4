# SPDX-License-Identifier: GPL-2.0-only
"""Make each witness prove, on every fresh boot, that it sees.

A blind witness is worse than none: a case that expects a doorbell fails on a good kernel, and one that expects silence
passes on a broken one. So each check makes something happen and requires that the witness saw it, through the same
parser as in a case. The checks come before the first case's marks, so no case sees them.

``IommuMaps`` checks itself at its first use, because nothing is mapped before a case. The witnesses inside the guest
check each answer: harness/guest/dmabuf.py (bufinfo) and the cases about page tables.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.errors import AgentError, BlindWitness, KernelErrno
from harness.escape import escaped
from harness.witness.doorbell import DOORBELLS, Doorbell
from harness.witness.machine import CONSOLE_LIMIT, Machine
from harness.witness.qemu_stderr import parse_stderr
from harness.witness.splat import find_splats
from harness.witness.watch import Witnesses

CONSOLE_S = 10.0
"""Deadline for a record of the guest's log to reach the console file: milliseconds on an idle host."""
POLL_S = 0.002
AGAIN = 3
"""How often a device is checked after a case: one that goes wrong now and then does so in one of them."""
QUOTED = 160
"""Bytes of the trace in a message."""

# A write to BAR0, as (offset, width, value), and the doorbell that the witness must report. Each row causes another of
# QEMU's trace events. The admin queues have two entries and are empty, so 0 moves nothing. Queue 60 does not exist.
RINGS: Sequence[tuple[tuple[int, int, int], Doorbell]] = (
    ((DOORBELLS, 4, 0), Doorbell("sq", 0, 0)),
    ((DOORBELLS + 4, 4, 0), Doorbell("cq", 0, 0)),
    ((DOORBELLS, 4, 0xFFFF), Doorbell("sq", 0, 0xFFFF, accepted=False)),
    ((DOORBELLS + 4, 4, 0xFFFF), Doorbell("cq", 0, 0xFFFF, accepted=False)),
    ((DOORBELLS + 8 * 60, 4, 1), Doorbell("sq", 60, None, accepted=False)),
    ((DOORBELLS + 8 * 60 + 4, 4, 1), Doorbell("cq", 60, None, accepted=False)),
    ((DOORBELLS + 2, 2, 1), Doorbell("sq", 0, None, accepted=False)),
)

SPLAT = "WARNING in vfio_harness_self_check"
LOG_RECORD = """<4>vfio-harness: self-check of the console; this is no fault of the kernel:
WARNING: at vfio_harness_self_check+0x0/0x0
---[ end trace 0000000000000000 ]---
"""
"""At KERN_WARNING, the level of a WARN. A console that hides that level hides splats."""

STDERR_LINE = "vfio-harness: self-check: Blocked re-entrant IO\n"


class Stimuli(Protocol):
    """The actions in the guest that a self-check triggers."""

    has_controller: bool
    has_iommu: bool

    def requester(self) -> str:
        """Return the PCI address of the controller that ``fetch`` uses."""

    def controllers(self) -> Sequence[str]:
        """Return the PCI addresses of the controllers to ring: one of QEMU's own, and each vfio-user device."""

    def ring(self, controller: str, writes: Sequence[tuple[int, int, int]]) -> None:
        """Have the guest's CPU write ``(offset in BAR0, width in bytes, value)`` each to the controller."""

    def fetch(self) -> int | None:
        """Have a device read from an address that it may not reach. Return the address, or None if it could."""

    def log(self, text: str) -> None:
        """Write a record to the guest kernel's log."""


@dataclass(frozen=True)
class Check:
    """The self-check of one witness."""

    witness: str
    """Its name in a verdict."""
    used: Callable[[Stimuli], bool]
    """Whether any verdict on this machine relies on it."""
    missed: Callable[[Witnesses, Machine, Stimuli], str]
    """Stimulates the witness. Returns what it did not see, or an empty string."""


def prove(witnesses: Witnesses, machine: Machine, stimuli: Stimuli) -> None:
    """Check every witness that this machine uses. About 30 ms, and 60 ms more for each vfio-user device.

    Raises BlindWitness, or what ended the VM.
    """
    _prove(CHECKS, witnesses, machine, stimuli)


def prove_devices(witnesses: Witnesses, machine: Machine, stimuli: Stimuli) -> None:
    """Check again, ``AGAIN`` times, that the controllers do and log what is written to them. Nothing may be open.

    A vfio-user device is a program, which may go wrong at any time. Raises as ``prove`` does.
    """
    for _ in range(AGAIN):
        _prove([check for check in CHECKS if check.missed is _doorbells], witnesses, machine, stimuli)


def _prove(checks: Sequence[Check], witnesses: Witnesses, machine: Machine, stimuli: Stimuli) -> None:
    for check in checks:
        if not check.used(stimuli):
            continue
        try:
            missed = check.missed(witnesses, machine, stimuli)
        except (AgentError, KernelErrno, OSError) as error:
            missed = f"its self-check could not be made: {error}"
        if missed:
            raise BlindWitness(
                f"blind witness, {check.witness}: {missed}",
                hint="the files of this machine in the run's results show what QEMU and the guest wrote",
            )


def _events(witnesses: Witnesses, machine: Machine, stimuli: Stimuli) -> str:
    """Look for the RESUME event of the harness's ``cont``: QEMU starts stopped (-S)."""
    return "" if any(event.name == "RESUME" for event in machine.events.since(0)) else "no RESUME event of the start"


def _stderr(witnesses: Witnesses, machine: Machine, stimuli: Stimuli) -> str:
    """Write a line through QEMU's own descriptor, in the words of a warning that invalidates a case."""
    mark = machine.stderr_path.stat().st_size
    with Path(f"/proc/{machine.pid}/fd/2").open("a", encoding="ascii") as stderr:
        stderr.write(STDERR_LINE)
    with machine.stderr_path.open("rb") as written:
        written.seek(mark)
        seen = parse_stderr(escaped(written.read()))
    return "" if any(line.invalidates for line in seen) else "a warning written to it did not reach the file"


def _doorbells(witnesses: Witnesses, machine: Machine, stimuli: Stimuli) -> str:
    for controller in stimuli.controllers():
        mark = witnesses.faults.mark()
        stimuli.ring(controller, [write for write, _ in RINGS])
        seen = witnesses.doorbells_since(mark)
        missing = [str(doorbell) for _, doorbell in RINGS if doorbell not in seen]
        if missing:
            listed = "none was seen" if len(missing) == len(RINGS) else f"not seen: {', '.join(missing)}"
            wrote = f"the guest's CPU wrote {len(RINGS)} doorbells of {controller}"
            return f"{wrote}; {listed}; {_trace_after(machine, mark.trace)}"
    return ""


def _faults(witnesses: Witnesses, machine: Machine, stimuli: Stimuli) -> str:
    mark = witnesses.faults.mark()
    address = stimuli.fetch()
    if address is None:
        return "no DMA could be made to fault: the IOMMU let a fresh device reach an address that nothing maps"
    requester = stimuli.requester()
    for fault in witnesses.faults.since(mark):
        if (fault.device, fault.address, fault.write or False) == (requester, address, False):
            return ""
    return f"{requester} was refused a DMA read from {address:#x}; not seen; {_trace_after(machine, mark.trace)}"


def _trace_after(machine: Machine, mark: int) -> str:
    """Quote the trace after ``mark``, to show why the parser found nothing in it."""
    if not machine.trace_path.exists():
        return "QEMU wrote no trace file"
    with machine.trace_path.open("rb") as trace:
        trace.seek(mark)
        line = trace.readline(QUOTED)
    return f"the trace continues with {escaped(line).rstrip()!r}" if line else "the trace did not grow"


def _console(witnesses: Witnesses, machine: Machine, stimuli: Stimuli) -> str:
    mark = machine.console.mark()
    stimuli.log(LOG_RECORD)
    deadline = time.monotonic() + CONSOLE_S
    while SPLAT not in [splat.title for splat in find_splats(machine.console.since(mark, CONSOLE_LIMIT))]:
        if machine.lost is not None:
            raise machine.lost
        if time.monotonic() > deadline:
            return f"a WARNING in the kernel's log was not found on the console within {CONSOLE_S:g} s"
        time.sleep(POLL_S)
    return ""


def _device_logs(witnesses: Witnesses, machine: Machine, stimuli: Stimuli) -> str:
    """Look for the guest kernel's reads of config space at boot, in each device's own log."""
    blind = [
        device
        for device in witnesses.devices.devices
        if not any(each.event == "read" for each in witnesses.devices.since(0.0, device))
    ]
    return f"no access since the boot in the log of {', '.join(blind)}" if blind else ""


def _always(stimuli: Stimuli) -> bool:
    return True


# The console comes last: its record follows what the kernel logged about the refused DMA, so no case finds that in its
# own part of the console.
CHECKS = (
    Check("QMP events", _always, _events),
    Check("QEMU's stderr", _always, _stderr),
    Check("doorbell trace", lambda stimuli: stimuli.has_controller, _doorbells),
    Check("device log", _always, _device_logs),
    Check("IOMMU fault trace", lambda stimuli: stimuli.has_iommu and stimuli.has_controller, _faults),
    Check("console", _always, _console),
)
