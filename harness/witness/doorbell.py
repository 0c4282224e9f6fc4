# SPDX-License-Identifier: GPL-2.0-only
"""Read NVMe doorbells from QEMU's trace: the host's proof that a write did, or did not, reach the device.

Writes that the controller rejects count too: no such queue, a value beyond the queue, or not 32-bit aligned. A stray
write must not be missed because the controller ignored it. A trace line does not name its controller, so cases with
several controllers need distinct queue ids or values.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from harness.witness.machine import Machine
from harness.witness.tracelog import TraceLine, TraceLog

DOORBELLS = 0x1000  # offset in BAR0, NVM Express Base Specification, 3.1.2

Queue = Literal["sq", "cq"]


@dataclass(frozen=True)
class Doorbell:
    """One write to a doorbell register."""

    queue: Queue
    qid: int
    value: int | None
    """The new tail or head; None where QEMU does not say."""
    accepted: bool = True
    """False if the controller ignored the write."""
    time: float | None = field(default=None, compare=False)
    """Unix time in seconds; None where QEMU writes none. Comparisons ignore it."""

    def __str__(self) -> str:
        """Return one line for the evidence, in QEMU's words."""
        value = "?" if self.value is None else self.value
        return f"{self.queue} {self.qid} doorbell = {value}{'' if self.accepted else ' (ignored by the controller)'}"


# QEMU hw/nvme/trace-events, 7.2 to 11.1; the invalid_sqtail line calls its value new_head.
_EVENTS: dict[str, tuple[Queue | None, bool, re.Pattern[str]]] = {
    "pci_nvme_mmio_doorbell_sq": ("sq", True, re.compile(r"sqid (?P<qid>\d+) new_tail (?P<value>\d+)")),
    "pci_nvme_mmio_doorbell_cq": ("cq", True, re.compile(r"cqid (?P<qid>\d+) new_head (?P<value>\d+)")),
    "pci_nvme_ub_db_wr_invalid_sq": ("sq", False, re.compile(r".*sqid=(?P<qid>\d+), ignoring")),
    "pci_nvme_ub_db_wr_invalid_cq": ("cq", False, re.compile(r".*cqid=(?P<qid>\d+), ignoring")),
    "pci_nvme_ub_db_wr_invalid_sqtail": ("sq", False, re.compile(r".*sqid=(?P<qid>\d+), new_\w+=(?P<value>\d+), .*")),
    "pci_nvme_ub_db_wr_invalid_cqhead": ("cq", False, re.compile(r".*cqid=(?P<qid>\d+), new_\w+=(?P<value>\d+), .*")),
    "pci_nvme_ub_db_wr_misaligned": (None, False, re.compile(r".*offset=0x(?P<offset>[0-9a-f]+), ignoring")),
}


def parse_doorbells(lines: Iterable[TraceLine]) -> Iterator[Doorbell]:
    """Yield the doorbells among ``lines``, in order."""
    for line in lines:
        if line.event not in _EVENTS:
            continue
        queue, accepted, pattern = _EVENTS[line.event]
        match = pattern.fullmatch(line.arguments)
        if match is None:
            continue
        named = match.groupdict()
        if queue is None:
            index = (int(named["offset"], 16) - DOORBELLS) // 4
            yield Doorbell("cq" if index % 2 else "sq", index // 2, None, accepted, line.time)
        else:
            value = named.get("value")
            yield Doorbell(queue, int(named["qid"]), None if value is None else int(value), accepted, line.time)


class DoorbellTrace:
    """The doorbells of all controllers of a machine. Create it after boot, because SeaBIOS rings hundreds."""

    def __init__(self, machine: Machine) -> None:
        self._log = TraceLog(machine)
        self._log.enable(_EVENTS)

    def mark(self) -> int:
        """Return the trace's present end."""
        return self._log.mark()

    def since(self, mark: int) -> list[Doorbell]:
        """Return every doorbell rung between ``mark`` and this call."""
        self._log.settle()
        return self.recorded(mark)

    def recorded(self, mark: int) -> list[Doorbell]:
        """Return what the file has after ``mark``, without waiting for QEMU: for a machine that is lost."""
        return list(parse_doorbells(self._log.since(mark, _EVENTS)))
