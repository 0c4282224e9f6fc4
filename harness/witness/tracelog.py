# SPDX-License-Identifier: GPL-2.0-only
"""Read QEMU's own trace, which its ``log`` backend writes to the ``-D`` file, and switch events on over QMP.

Why a read is complete: the ``log`` backend writes and flushes an event's line in the thread that handles the access,
before the access returns (QEMU util/log.c, ``qemu_log_unlock``). Device models and QMP commands both run under QEMU's
big lock. So once a QMP command has returned, every access that began before it is in the file.
"""

import itertools
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from harness.errors import HarnessError
from harness.witness.machine import Machine

SETTLE_TIMEOUT_S = 30.0
MAX_LINE_BYTES = 4096
MAX_EVENTS = 100_000

# What ``-msg timestamp=on`` puts in front of an event: "<thread>@<Unix time>:" up to QEMU 10.0, then ISO 8601 in UTC
# (11.1: "2026-11-21T13:24:17.763312Z "). A time that cannot be read costs the time, never the event.
_UNIX = r"\d{1,12}@(?P<unix>\d{1,12}\.\d{1,9}):"
_ISO = r"(?P<iso>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z) "
_LINE = re.compile(rf"(?:{_UNIX}|{_ISO})?(?P<event>[a-z]\w{{0,80}}) (?P<arguments>.*)")


@dataclass(frozen=True)
class TraceLine:
    """One event of QEMU's trace."""

    event: str
    arguments: str
    time: float | None = None
    """Unix time in seconds; None where QEMU writes none."""


def parse_line(line: str) -> TraceLine | None:
    """Return a trace event's line, or None for anything else that QEMU logs."""
    match = _LINE.fullmatch(line)
    return TraceLine(match["event"], match["arguments"], _time(match)) if match else None


def _time(match: re.Match[str]) -> float | None:
    if match["unix"]:
        return float(match["unix"])
    if match["iso"]:
        with suppress(ValueError):  # no such date
            return datetime.fromisoformat(match["iso"]).timestamp()
    return None


def read_lines(path: Path, mark: int, events: Collection[str]) -> Iterator[TraceLine]:
    """Yield the complete lines after byte ``mark`` that belong to ``events``; none if there is no file yet."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(mark)
        while raw := file.readline(MAX_LINE_BYTES):
            if not raw.endswith(b"\n") and len(raw) < MAX_LINE_BYTES:
                return  # QEMU is still writing it
            line = parse_line(raw.decode("ascii", "replace").rstrip("\r\n"))
            if line is not None and line.event in events:
                yield line


class TraceLog:
    """Switches events on, and reads them after a mark."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._enabled: set[str] = set()

    def enable(self, events: Collection[str]) -> None:
        """Switch ``events`` on, unless they are. Raises HarnessError if this QEMU lacks one: a blind witness."""
        for event in events:
            if event in self._enabled:
                continue
            self._machine.qmp.execute(
                "trace-event-set-state",
                {"name": event, "enable": True, "ignore-unavailable": True},
                timeout=SETTLE_TIMEOUT_S,
            )
            states = self._machine.qmp.execute("trace-event-get-state", {"name": event}, timeout=SETTLE_TIMEOUT_S)
            if [state["state"] for state in states] != ["enabled"]:
                raise HarnessError(
                    f"this QEMU cannot trace {event}, so the host could not see what devices do",
                    hint="use a QEMU with the trace backend 'log', as Debian's is; `-trace help` lists its events",
                )
            self._enabled.add(event)

    def settle(self) -> None:
        """Wait until every access that began before the call is in the file. A lost guest makes no more accesses.

        Raises the HarnessError that ended the machine, if one did: then the file may be incomplete.
        """
        lost = self._machine.lost
        if isinstance(lost, HarnessError):
            raise lost
        if lost is None:
            self._machine.qmp.execute("query-status", timeout=SETTLE_TIMEOUT_S)

    def mark(self) -> int:
        """Return the trace's present length in bytes."""
        self.settle()
        return self.size()

    def size(self) -> int:
        """Return the file's length in bytes; 0 before QEMU has created it."""
        try:
            return self._machine.trace_path.stat().st_size
        except FileNotFoundError:
            return 0

    def since(self, mark: int, events: Collection[str]) -> Iterator[TraceLine]:
        """Yield ``events`` after ``mark``, at most ``MAX_EVENTS``. Call ``settle`` first for a complete file."""
        return itertools.islice(read_lines(self._machine.trace_path, mark, events), MAX_EVENTS)
