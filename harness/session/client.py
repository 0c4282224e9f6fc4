# SPDX-License-Identifier: GPL-2.0-only
"""The host's end of the agent: starts it over SSH, sends requests, hands replies to who waits for them."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import ContextVar, copy_context
from typing import Any, Generic, TypeVar

import paramiko

from harness.errors import AgentLost
from harness.session import bundle, calllog, wire
from harness.session.wire import BadLine, Ref
from harness.vm import Machine

T = TypeVar("T")

COMMAND = "/usr/lib/vfio-harness/agent"
START_SECONDS = 15.0
NO_STATUS = ", or SSH did: no exit status came"
END_SECONDS = 2.0  # for our own thread to notice
CALL_SECONDS = 20.0  # for a call that takes milliseconds when the kernel is well

_own_thread: ContextVar[bool] = ContextVar("own_thread", default=False)


class Agent:
    """One agent in one guest. Calls may come from several threads."""

    def __init__(self, machine: Machine) -> None:
        """Start it and wait for its hello. Raises AgentLost, or what ended the VM."""
        self.on_call: Callable[[str], None] | None = None
        """Told each call and how it ended, in one line, by whichever thread made it."""
        self._machine = machine
        self._names: dict[int, str] = {}
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._lost: AgentLost | None = None
        self._hello: Future[Any] = Future()
        self._channel = _start(machine.ssh(), START_SECONDS * machine.slowdown)
        self._reader = threading.Thread(target=self._receive, name="agent", daemon=True)
        self._reader.start()
        try:
            self.hello: dict[str, Any] = machine.wait_for(self._hello, START_SECONDS, "the guest agent's hello")
        except BaseException:
            self.close()
            raise

    def call(self, on: str | Ref, do: str, /, *, timeout: float = CALL_SECONDS, **args: Any) -> Any:
        """Run ``do`` of a service or an object in the guest; returns its result.

        ``timeout`` in seconds, for a machine of slowdown 1. Raises KernelErrno, ImporterRefused, AgentError, AgentLost,
        or what ended the VM; GuestHung at the deadline.
        """
        try:
            result = self._call(on, do, timeout, args)
        except Exception as error:
            self._tell(on, do, args, calllog.refusal(error))
            raise
        self._tell(on, do, args, calllog.answer(result))
        return result

    def introduce(self, ref: Ref, name: str) -> None:
        """What an object in the guest is called in evidence."""
        self._names[ref.number] = name

    def _tell(self, on: str | Ref, do: str, args: dict[str, Any], outcome: str) -> None:
        if self.on_call is not None:
            who = on if isinstance(on, str) else self._names.get(on.number, "object")
            self.on_call(calllog.call(who, do, args, outcome))

    def _call(self, on: str | Ref, do: str, timeout: float, args: dict[str, Any]) -> Any:
        future: Future[Any] = Future()
        number = next(self._numbers)
        line = wire.request(number, on, do, args, _own_thread.get())
        with self._lock:
            self._waiting[number] = future
            if self._lost:
                future.set_exception(self._lost)
        if not future.done():
            self._send(line)
        message = self._machine.wait_for(future, timeout, f"{do} in the guest")
        if error := wire.failure(message):
            raise error
        return message.get("ok")

    @property
    def slowdown(self) -> float:
        """The machine's, for deadlines that the guest keeps."""
        return self._machine.slowdown

    def _send(self, line: bytes) -> None:
        try:
            with self._sending:
                self._channel.sendall(line)
        except TimeoutError:
            raise self._machine.hung("the guest agent takes no requests") from None
        except OSError:
            self._channel.close()  # then the reader says how the agent ended

    def close(self) -> None:
        """Let the agent end; it closes what it holds."""
        self._channel.close()
        self._reader.join(END_SECONDS)

    def _receive(self) -> None:
        """Hand each line to its future until the channel ends; then fail those that still wait."""
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
            why = f"the guest agent does not keep to its protocol: {exc}"
            self._channel.close()
        finally:
            self._fail(AgentLost(why + _last_words(self._channel)))

    def _receive_some(self) -> bytes:
        """What has come; b"" at the channel's end."""
        while True:
            with suppress(TimeoutError):  # the channel's timeout is meant for sending
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
    """A call under way in the guest, on a thread of its own there, while the host looks."""

    def __init__(self, machine: Machine, function: Callable[[], T]) -> None:
        self._machine = machine
        self._future: Future[T] = Future()
        context = copy_context()
        threading.Thread(target=context.run, args=(self._run, function), daemon=True).start()

    def _run(self, function: Callable[[], T]) -> None:
        _own_thread.set(True)
        try:
            self._future.set_result(function())
        except BaseException as exc:
            self._future.set_exception(exc)

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._future.done()

    def result(self, timeout: float = CALL_SECONDS) -> T:
        """Its result, or raises what it raised; GuestHung when it has not ended within ``timeout`` seconds."""
        return self._machine.wait_for(self._future, timeout, "a call in the guest")


def _start(client: paramiko.SSHClient, seconds: float) -> paramiko.Channel:
    application = bundle.pack()
    try:
        transport = client.get_transport()
        if transport is None:
            raise AgentLost("the SSH connection to the guest is closed")
        channel = transport.open_session(timeout=seconds)
        channel.settimeout(seconds)
        channel.exec_command(COMMAND)
        channel.sendall(b"%d\n" % len(application) + application)
    except (OSError, paramiko.SSHException) as exc:
        raise AgentLost(f"starting the guest agent over SSH: {exc}") from None
    return channel


def _last_words(channel: paramiko.Channel) -> str:
    """How the agent ended, as far as can be told: its exit status, what it said on stderr."""
    status = channel.recv_exit_status() if channel.exit_status_ready() else None
    ended = "" if status is None else NO_STATUS if status < 0 else f", with status {status}"
    words = channel.recv_stderr(8192) if channel.recv_stderr_ready() else b""
    return ended + (f"; it said:\n{wire.shown(words.decode(errors='replace'))}" if words else "")
