# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's own trace, written by its ``log`` backend to the ``-D`` file and switched over QMP.

Why a read is complete: the ``log`` backend writes an event's line, and flushes it, in the thread that handles the
access and before the access returns (QEMU util/log.c, ``qemu_log_unlock``). Device models run under QEMU's big lock,
and so do QMP commands: once a QMP command has returned, no access that began before it is still unwritten.
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
    """The complete lines after byte ``mark`` that belong to ``events``; nothing if there is no file yet."""
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
    """Switches events on, and reads them from a mark."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def enable(self, events: Collection[str]) -> None:
        """Switch ``events`` on. HarnessError if this QEMU has not got one: a witness must never be blind unnoticed."""
        for event in events:
            self._machine.qmp.execute(
                "trace-event-set-state",
                {"name": event, "enable": True, "ignore-unavailable": True},
                timeout=SETTLE_TIMEOUT_S,
            )
            states = self._machine.qmp.execute("trace-event-get-state", {"name": event}, timeout=SETTLE_TIMEOUT_S)
            if [state["state"] for state in states] != ["enabled"]:
                raise HarnessError(
                    f"this QEMU cannot trace {event}, so the host could not see what devices do",
                    hint="use a QEMU built with the trace backend 'log', as Debian's is; `-trace help` lists its",
                )

    def settle(self) -> None:
        """Return once every access begun before the call is in the file. A guest that is lost accesses no more.

        Raises what else ended the machine, for then the file may be incomplete."""
        lost = self._machine.lost
        if isinstance(lost, HarnessError):
            raise lost
        if lost is None:
            self._machine.qmp.execute("query-status", timeout=SETTLE_TIMEOUT_S)

    def mark(self) -> int:
        """Where the trace ends now, in bytes."""
        self.settle()
        return self.size()

    def size(self) -> int:
        """The file's length in bytes; 0 before QEMU has made it."""
        try:
            return self._machine.trace_path.stat().st_size
        except FileNotFoundError:
            return 0

    def since(self, mark: int, events: Collection[str]) -> Iterator[TraceLine]:
        """``events`` after ``mark``, at most ``MAX_EVENTS``, as far as the file has them: ``settle`` completes it."""
        return itertools.islice(read_lines(self._machine.trace_path, mark, events), MAX_EVENTS)
