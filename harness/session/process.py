# SPDX-License-Identifier: GPL-2.0-only
"""Handle on a process that is forked from the guest agent. Handles work in it as they do in the agent."""

import copy
import itertools
from typing import Any, TypeVar, cast

from harness.errors import ProcessEnded
from harness.session import calllog, recording, wire
from harness.session.answers import AnswerTimes
from harness.session.client import CALL_SECONDS, Agent
from harness.session.device import DmaBuf
from harness.session.handle import Handle
from harness.session.wire import Ref

H = TypeVar("H", bound=Handle)


class Process(Handle):
    """A process with a copy of each fd that the agent had open when it forked. Closing this handle kills it."""

    def __init__(self, agent: Agent) -> None:
        """Fork."""
        super().__init__(agent, agent.call("rpc", "fork"))
        self.inside = ForkedAgent(agent, self)
        """Makes calls in the process, one at a time."""

    def copy_of(self, handle: H) -> H:
        """Return the process's own copy of an object that was open when it forked."""
        found = copy.copy(handle)
        found.agent = self.inside
        self.inside.set_name(found.ref, type(found).__name__)
        return found

    def take(self, buffer: DmaBuf) -> DmaBuf:
        """Receive a copy of a dma-buf's fd from the process (SCM_RIGHTS)."""
        self.inside.call("processes", "send", file=buffer)
        return DmaBuf(self.agent, self._call("receive_dmabuf"), buffer.region, buffer.ranges)

    def send(self, file: Handle) -> None:
        """Send a copy of a file's fd to the process (SCM_RIGHTS), which does not receive it: it stays in flight."""
        self._call("send", file=file)

    def kill(self) -> None:
        """Send SIGKILL to the process."""
        self._call("kill")

    def ended(self, timeout: float = 5.0) -> bool:
        """Return whether the process has exited, and closed its fds, within ``timeout`` s (for a slowdown of 1)."""
        seconds = timeout * self.agent.slowdown
        return cast(bool, self._call("ended", seconds=seconds, timeout=timeout + CALL_SECONDS))

    def drop_privileges(self) -> None:
        """Let the process become an ordinary user, without capabilities."""
        self.inside.call("processes", "drop_privileges")

    def ask(self, line: bytes, timeout: float) -> bytes:
        """Send one request to the process. Returns the reply; b"" if the process ends first."""
        return cast(bytes, self._call("ask", line=line, timeout=timeout))


class ForkedAgent:
    """Makes calls in a forked process, through the agent."""

    def __init__(self, agent: Agent, process: Process) -> None:
        self._agent = agent
        self._process = process
        self._names: dict[int, str] = {}
        self._numbers = itertools.count(1)

    def call(self, on: str | Ref, do: str, /, *, timeout: float = CALL_SECONDS, **args: Any) -> Any:
        """Call ``do`` of a service or an object in the process. Raises ProcessEnded, and what ``Agent.call`` raises."""
        recording.add({"in a forked process": [on, do]})
        try:
            result = self._call(on, do, timeout, args)
        except Exception as error:
            self._report(on, do, args, calllog.error_text(error))
            raise
        self._report(on, do, args, calllog.result_text(result))
        return result

    def _call(self, on: str | Ref, do: str, timeout: float, args: dict[str, Any]) -> Any:
        reply = self._process.ask(wire.request(next(self._numbers), on, do, args, thread=False), timeout)
        if not reply:
            raise ProcessEnded(f"the forked process ended during {do}")
        message = wire.reply(reply)
        if error := wire.failure(message):
            raise error
        return message.get("ok")

    def _report(self, on: str | Ref, do: str, args: dict[str, Any], outcome: str) -> None:
        if self._agent.on_call is not None:
            target = on if isinstance(on, str) else self._names.get(on.number, "object")
            self._agent.on_call(f"in a forked process: {calllog.call(target, do, args, outcome)}")

    def set_name(self, ref: Ref, name: str) -> None:
        """Set the name that evidence uses for an object in the process."""
        self._names[ref.number] = name

    @property
    def slowdown(self) -> float:
        """The machine's factor for deadlines, for those that the guest keeps."""
        return self._agent.slowdown

    @property
    def answers(self) -> AnswerTimes:
        """How long the machine's controllers take to answer."""
        return self._agent.answers
