# SPDX-License-Identifier: GPL-2.0-only
"""Read writes to an AHCI controller's port registers from QEMU's trace."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness.witness.machine import Machine
from harness.witness.tracelog import TraceLine, TraceLog

# QEMU hw/ide/trace-events, 7.2 to 11.1.
EVENT = "ahci_port_write"
_WRITE = re.compile(
    r"ahci\(0x[0-9a-f]+\)\[(?P<port>\d+)\]: port write \[reg:(?P<register>\w+)\] @ 0x[0-9a-f]+: 0x(?P<value>[0-9a-f]+)"
)


@dataclass(frozen=True)
class PortWrite:
    """A write of ``value`` to a register of a port."""

    port: int
    register: str
    """By its name in the specification, such as ``PxCLB``."""
    value: int

    def __str__(self) -> str:
        """Return one line for the evidence."""
        return f"port {self.port} {self.register} = {self.value:#x}"


def parse(lines: Iterable[TraceLine]) -> Iterator[PortWrite]:
    """Yield the writes among ``lines``, in order."""
    for line in lines:
        if line.event == EVENT and (found := _WRITE.fullmatch(line.arguments)):
            yield PortWrite(int(found["port"]), found["register"], int(found["value"], 16))


class AhciTrace:
    """The port writes of a machine's AHCI controllers. It records from the first ``mark`` on."""

    def __init__(self, machine: Machine) -> None:
        self._log = TraceLog(machine)

    def mark(self) -> int:
        """Return the trace's present end."""
        self._log.enable([EVENT])
        return self._log.mark()

    def since(self, mark: int) -> list[PortWrite]:
        """Return every write between ``mark`` and this call."""
        self._log.settle()
        return list(parse(self._log.since(mark, [EVENT])))
