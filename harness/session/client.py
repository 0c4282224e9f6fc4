# SPDX-License-Identifier: GPL-2.0-only
"""The host side of the agent: start it over SSH, send requests, and deliver each reply to its call."""

import itertools
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import ContextVar, copy_context
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import paramiko

from harness.errors import AgentLost, HarnessError
from harness.session import calllog, recording, wire
from harness.session.answers import AnswerTimes
from harness.session.wire import BadLine, Ref
from harness.vm import Machine

log = logging.getLogger(__name__)

T = TypeVar("T")

COMMAND = "/usr/lib/vfio-harness/agent"
START_SECONDS = 15.0
NO_STATUS = ", or SSH did: no exit status came"
END_SECONDS = 2.0
"""How long ``close`` waits for the reader thread, and how long the reader waits for the exit status of an agent."""
CALL_SECONDS = 20.0
"""Default deadline of a call. A call takes milliseconds unless the kernel is stuck."""

_sent: ContextVar[threading.Event | None] = ContextVar("sent", default=None)
"""In a call of ``Pending``: set once its request is sent. The guest runs such a request on a thread of its own."""


class Caller(Protocol):
    """Makes calls in a process of the guest: the agent, or a process forked from it."""

    def call(self, on: str | Ref, do: str, /, *, timeout: float = CALL_SECONDS, **args: Any) -> Any:
        """Call ``do`` of a service or an object in the process. Returns its result. Errors: ``Agent.call``."""

    def set_name(self, ref: Ref, name: str) -> None:
        """Set the name that evidence uses for an object in the process."""

    @property
    def slowdown(self) -> float:
        """The machine's factor for deadlines, for those that the guest keeps."""

    @property
    def answers(self) -> AnswerTimes:
        """How long the machine's controllers take to answer."""


class Agent:
    """One agent in one guest. Calls may come from several threads."""

    STEP: ClassVar = "call"
    """The key of its calls in a recording."""

    def __init__(self, machine: Machine) -> None:
        """Start the agent and wait for its hello. Raises AgentLost, or the error that ended the VM."""
        self.on_call: Callable[[str], None] | None = None
        """Called with one line for each call that ended, on the thread that made the call."""
        self.answers = AnswerTimes(machine.slowdown)
        """How long the machine's controllers take to answer."""
        self._machine = machine
        self._names: dict[int, str] = {}
        self.made: dict[int, recording.Step] = {}
        """By its number, the step that made each object, for recordings."""
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._lost: AgentLost | None = None
        self._hello: Future[Any] = Future()
        ssh, application = machine.ssh(), machine.agent.read_bytes()
        # paramiko has no deadline for the guest's answer to the command.
        starting = Pending(
            machine, lambda: _start(ssh, application, START_SECONDS * machine.slowdown), calls_guest=False
        )
        self._channel = starting.result(2 * START_SECONDS)
        self._reader = threading.Thread(target=self._receive, name="agent", daemon=True)
        self._reader.start()
        try:
            self.hello: dict[str, Any] = machine.wait_for(self._hello, START_SECONDS, "the guest agent's hello")
        except BaseException:
            self.close()
            raise

    def call(self, on: str | Ref, do: str, /, *, timeout: float = CALL_SECONDS, **args: Any) -> Any:
        """Call ``do`` of a service or an object in the guest. Returns its result.

        ``timeout``: in seconds, for a slowdown of 1. Raises KernelErrno, ImporterRefused, AgentError, AgentLost, or the
        error that ended the VM; GuestHung at the deadline.
        """
        ended = recording.call(self.STEP, on, do, args, made=self.made)
        try:
            result = self._call(on, do, timeout, args)
        except Exception as error:
            ended(None, error)
            self._report(on, do, args, calllog.error_text(error))
            raise
        ended(result, None)
        self._report(on, do, args, calllog.result_text(result))
        return result

    def set_name(self, ref: Ref, name: str) -> None:
        """Set the name that evidence uses for an object in the guest."""
        self._names[ref.number] = name

    def note(self, line: str) -> None:
        """Give ``on_call`` a line that is no call: the output of a program."""
        if self.on_call is not None:
            self.on_call(line)

    def _report(self, on: str | Ref, do: str, args: dict[str, Any], outcome: str) -> None:
        target = on if isinstance(on, str) else self._names.get(on.number, "object")
        self.note(calllog.call(target, do, args, outcome))

    def _call(self, on: str | Ref, do: str, timeout: float, args: dict[str, Any]) -> Any:
        future: Future[Any] = Future()
        number = next(self._numbers)
        line = wire.request(number, on, do, args, _sent.get() is not None)
        with self._lock:
            self._waiting[number] = future
            if self._lost:
                future.set_exception(self._lost)
        if not future.done():
            self._send(line)
        if sent := _sent.get():
            sent.set()
        message = self._machine.wait_for(future, timeout, f"{do} in the guest")
        if error := wire.failure(message):
            raise error
        return message.get("ok")

    @property
    def slowdown(self) -> float:
        """The machine's factor for deadlines, for those that the guest keeps."""
        return self._machine.slowdown

    def _send(self, line: bytes) -> None:
        try:
            with self._sending:
                self._channel.sendall(line)
        except TimeoutError:
            raise self._machine.hung("the guest agent does not read requests") from None
        except OSError:
            self._channel.close()  # the reader then reports how the agent ended

    def close(self) -> None:
        """End the agent, which closes all that it has open."""
        self._channel.close()
        self._reader.join(END_SECONDS)

    def _receive(self) -> None:
        """Deliver each line to its future until the channel ends. Then fail the futures that still wait."""
        rest = b""
        why = "the guest agent ended"
        try:
            while data := self._receive_some():
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._deliver(wire.reply(line))
                if len(rest) > wire.LINE_LIMIT:
                    raise BadLine(f"a line of over {wire.LINE_LIMIT} bytes")
        except BadLine as exc:
            why = f"the guest agent broke its protocol: {exc}"
            self._channel.close()
        finally:
            self._fail(AgentLost(why + _exit_report(self._channel)))

    def _receive_some(self) -> bytes:
        """Read some bytes; b"" at the channel's end."""
        while True:
            with suppress(TimeoutError):  # the channel's timeout is for sending
                return self._channel.recv(1 << 16)

    def _deliver(self, message: dict[str, Any]) -> None:
        if "hello" in message and not self._hello.done():
            self._hello.set_result(message["hello"])
            return
        with self._lock:
            future = self._waiting.pop(message.get("id", 0), None)
        if future is None:
            raise BadLine("a reply to no request")
        future.set_result(message)

    def _fail(self, error: AgentLost) -> None:
        with self._lock:
            self._lost = error
            waiting = [self._hello, *self._waiting.values()]
            self._waiting.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(error)


class Pending(Generic[T]):
    """A call that runs in the guest on a thread of its own, so that the host can observe the guest meanwhile.

    Its first request is sent before the next call of the thread that makes it: the agent reads requests in order, and
    would not read this one while the next call blocks.
    """

    def __init__(self, machine: Machine, function: Callable[[], T], *, calls_guest: bool = True) -> None:
        """``calls_guest``: whether the function calls the agent. Raises HarnessError if its request is not sent."""
        self._machine = machine
        self._future: Future[T] = Future()
        self._sent = threading.Event()
        self._thread = recording.new_thread()
        context = copy_context()
        threading.Thread(target=context.run, args=(self._run, function), daemon=True).start()
        if calls_guest and not self._sent.wait(CALL_SECONDS * machine.slowdown):
            raise HarnessError("a call that should run in the guest was not sent")

    def _run(self, function: Callable[[], T]) -> None:
        _sent.set(self._sent)
        recording.in_thread(self._thread)
        try:
            self._future.set_result(function())
        except BaseException as exc:
            self._future.set_exception(exc)
        finally:
            self._sent.set()

    def done(self) -> bool:
        """Return whether the call has ended, with a result or an error."""
        return self._future.done()

    def result(self, timeout: float = CALL_SECONDS) -> T:
        """Return the call's result or raise its error. GuestHung after ``timeout`` seconds (for a slowdown of 1)."""
        recording.join(self._thread)
        return self._machine.wait_for(self._future, timeout, "a call in the guest")


def _start(client: paramiko.SSHClient, application: bytes, seconds: float) -> paramiko.Channel:
    try:
        transport = client.get_transport()
        if transport is None:
            raise AgentLost("the SSH connection to the guest is closed")
        channel = transport.open_session(timeout=seconds)
        channel.settimeout(seconds)
        channel.exec_command(COMMAND)
        _send_application(channel, application)
    except (OSError, paramiko.SSHException) as exc:
        raise AgentLost(f"starting the guest agent over SSH: {exc}") from None
    return channel


def _send_application(channel: paramiko.Channel, application: bytes) -> None:
    try:
        channel.sendall(b"%d\n" % len(application) + application)
    except TimeoutError:
        raise
    except OSError:  # the agent has ended: the reader reports how
        log.debug("the guest agent ended before it had read its application")


def _exit_report(channel: paramiko.Channel) -> str:
    """Describe the agent's end: its exit status and its stderr, if they are known.

    The channel's end of file may come before the exit status (RFC 4254, 5.3 and 6.10)."""
    channel.status_event.wait(END_SECONDS)
    status = channel.recv_exit_status() if channel.exit_status_ready() else None
    ended = "" if status is None else NO_STATUS if status < 0 else f", with status {status}"
    errors = channel.recv_stderr(8192) if channel.recv_stderr_ready() else b""
    return ended + (f"; its stderr:\n{wire.bounded_text(errors.decode(errors='replace'))}" if errors else "")
