# SPDX-License-Identifier: GPL-2.0-only
"""Speak QMP synchronously: qemu.qmp runs in the machine's loop thread, and callers wait with a deadline."""

import contextlib
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from qemu.qmp import EventListener, ExecInterruptedError, Message, QMPClient, QMPError, Runstate, StateError
from qemu.qmp.qmp_client import ExecuteError

from harness.errors import HarnessError
from harness.vm.process import LoopThread

log = logging.getLogger(__name__)

ANSWER_S = 10.0
"""QEMU's main loop answers in milliseconds; a host under heavy load may take seconds."""
EVENTS_KEPT = 1000


class QmpError(HarnessError):
    """QEMU refused a command, or did not answer."""


@dataclass(frozen=True)
class Event:
    """A QMP event."""

    name: str
    data: Mapping[str, Any]
    t: float = field(default_factory=time.monotonic)
    """When it arrived, in seconds of the host's monotonic clock."""


class Events:
    """The latest events, oldest first."""

    def __init__(self) -> None:
        self._kept: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._count = 0
        self._arrived = threading.Condition()

    def add(self, event: Event) -> None:
        """Append an event, and wake the waiting threads."""
        with self._arrived:
            self._kept.append(event)
            self._count += 1
            self._arrived.notify_all()

    def mark(self) -> int:
        """Return a mark of the present, for ``since`` and ``wait_for``."""
        return self._count

    def since(self, mark: int) -> list[Event]:
        """Return the events after ``mark``, of the latest ``EVENTS_KEPT``."""
        with self._arrived:
            fresh = self._count - mark
            return list(self._kept)[-fresh:] if fresh > 0 else []

    def wait_for(self, name: str, timeout: float, since: int = 0, **data: Any) -> Event:
        """Return the first event of that name and ``data`` after the mark ``since``.

        Raises TimeoutError after ``timeout`` seconds.
        """

        def first() -> Event | None:
            matching = (e for e in self.since(since) if e.name == name and data.items() <= e.data.items())
            return next(matching, None)

        with self._arrived:
            found = self._arrived.wait_for(first, timeout)
        if found is None:
            raise TimeoutError(f"no {name} event within {timeout:g} s")
        return found


class _Listener(EventListener):
    """Passes on each event before the reader releases the link, so that no event follows the end of the link."""

    def __init__(self, handle: Callable[[Event], None]) -> None:
        super().__init__()
        self._handle = handle

    async def put(self, event: Message) -> None:
        data = event.get("data", {})
        self._handle(Event(str(event["event"]), data if isinstance(data, dict) else {}))


class Qmp:
    """The link to one QEMU, over a socket whose other end QEMU inherited."""

    def __init__(self, thread: LoopThread, handle: Callable[[Event], None]) -> None:
        self._thread = thread
        self._client = QMPClient("vfio-harness")
        self._client.register_listener(_Listener(handle))

    async def connect(self, sock: socket.socket) -> None:
        """Negotiate, in the loop. Raises QmpError if QEMU closes the link instead."""
        try:
            await self._client.connect(sock)
        except QMPError as error:
            raise QmpError(f"QMP: {error}") from None

    async def ended(self) -> None:
        """Wait, in the loop, until the link is lost and all its events have been passed on."""
        while self._client.runstate == Runstate.RUNNING:
            await self._client.runstate_changed()

    async def disconnect(self) -> None:
        """Close the link, in the loop, even if QEMU has closed it."""
        with contextlib.suppress(QMPError, EOFError, OSError):
            await self._client.disconnect()

    async def request(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Execute a command from the loop, without a deadline."""
        log.debug("QMP %s %s", command, dict(arguments or {}))
        try:
            return await self._client.execute(command, dict(arguments) if arguments else None)
        except ExecuteError as error:
            raise QmpError(f"QMP {command} {dict(arguments or {})}: {error}") from None
        except (ExecInterruptedError, StateError) as error:
            raise QmpError(f"QMP {command}: the link to QEMU is lost ({error})") from None

    def execute(self, command: str, arguments: Mapping[str, Any] | None = None, *, timeout: float = ANSWER_S) -> Any:
        """Return QEMU's answer. Raises QmpError if it refuses, closes the link, or is silent for ``timeout`` s."""
        try:
            return self._thread.run(self.request(command, arguments), timeout)
        except TimeoutError:
            raise QmpError(f"QMP {command}: no answer within {timeout:g} s") from None

    def monitor(self, line: str, *, timeout: float = ANSWER_S) -> str:
        """Return what the human monitor prints for ``line``, for the few things that QMP lacks."""
        return str(self.execute("human-monitor-command", {"command-line": line}, timeout=timeout))
