# SPDX-License-Identifier: GPL-2.0-only
"""Declare what the witnesses use of a running machine: QMP, console, trace file and stderr."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

CONSOLE_LIMIT = 4 << 20
"""Bytes of console that are read for one case; of more, the middle is skipped."""


class Qmp(Protocol):
    """QEMU's monitor."""

    def execute(self, command: str, arguments: Mapping[str, Any] | None = None, *, timeout: float = ...) -> Any:
        """Return the command's ``return`` value. ``timeout`` is in seconds."""


class Console(Protocol):
    """The recording of the guest's serial console."""

    def mark(self) -> int:
        """Return the console's present length in bytes."""

    def since(self, mark: int, limit: int = ...) -> str:
        """Return what was printed after ``mark``, with control characters escaped.

        Of more than ``limit`` bytes, it returns both ends.
        """


class Event(Protocol):
    """A QMP event."""

    @property
    def name(self) -> str:
        """As QMP has it, such as ``RESUME``."""


class Events(Protocol):
    """The QMP events that arrived."""

    def since(self, mark: int) -> Sequence[Event]:
        """Return the events after ``mark``; 0 is the start."""


class Machine(Protocol):
    """A started machine. It may have ended."""

    @property
    def qmp(self) -> Qmp:
        """Usable while ``lost`` is None."""

    @property
    def console(self) -> Console:
        """It stays readable after the machine's end."""

    @property
    def events(self) -> Events:
        """What QEMU has reported by QMP since its start."""

    @property
    def iommu_type(self) -> str:
        """QEMU's type of its IOMMU, e.g. ``intel-iommu``; empty without one."""

    @property
    def pid(self) -> int:
        """QEMU's process."""

    @property
    def stderr_path(self) -> Path:
        """The file that receives QEMU's stderr."""

    @property
    def trace_path(self) -> Path:
        """QEMU's ``-D`` file."""

    @property
    def device_logs(self) -> Mapping[str, Path]:
        """The log of each vfio-user device, by the device's id."""

    @property
    def lost(self) -> BaseException | None:
        """What ended the machine, if it has ended."""

    def stderr_tail(self) -> str:
        """Return the end of QEMU's stderr."""
