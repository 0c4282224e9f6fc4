# SPDX-License-Identifier: GPL-2.0-only
"""What the witnesses need of a running machine: its QMP, its console, its trace file and its stderr."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

CONSOLE_LIMIT = 4 << 20
"""How many bytes of console one case may fill before its middle goes unread."""


class Qmp(Protocol):
    """QEMU's monitor."""

    def execute(self, command: str, arguments: Mapping[str, Any] | None = None, *, timeout: float = ...) -> Any:
        """The command's ``return`` value; ``timeout`` in seconds."""


class Console(Protocol):
    """The guest's serial console, as recorded."""

    def mark(self) -> int:
        """Where the console ends now, in bytes."""

    def since(self, mark: int, limit: int = ...) -> str:
        """What was printed after ``mark``, control characters escaped; of more than ``limit`` bytes, both ends."""


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
    """A started machine, or what is left of one."""

    @property
    def qmp(self) -> Qmp:
        """Usable while ``lost`` is None."""

    @property
    def console(self) -> Console:
        """Readable also after the machine's end."""

    @property
    def events(self) -> Events:
        """What QEMU has reported by QMP since its start."""

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
    def lost(self) -> BaseException | None:
        """What ended the machine, if it has ended."""

    def stderr_tail(self) -> str:
        """The end of QEMU's stderr."""
