# SPDX-License-Identifier: GPL-2.0-only
"""Test the QMP link against a small server: answers, refusals, silence, and the end."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.vm.process import LoopThread
from harness.vm.qmp import Event, Events, Qmp, QmpError

GREETING = {"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}
Answer = Callable[[dict[str, Any]], list[dict[str, Any]] | None]


class Link:
    """A Qmp whose QEMU answers by ``answer``: a list of messages, or None to close the link."""

    def __init__(self, answer: Answer) -> None:
        self.events = Events()
        self.thread = LoopThread("test")
        self.qmp = Qmp(self.thread, self.events.add)
        self._answer = answer
        own, self._peer = socket.socketpair()
        self._server = threading.Thread(target=self._serve)
        self._server.start()
        self.thread.run(self.qmp.connect(own), 5)

    def _serve(self) -> None:
        with self._peer:
            self._send(GREETING)
            while raw := self._peer.recv(65536):  # one command each: the client waits for every answer
                command = json.loads(raw)
                negotiating = command["execute"] == "qmp_capabilities"
                messages = [{"return": {}}] if negotiating else self._answer(command)
                if messages is None:
                    return
                for message in messages:
                    own_id = {} if "event" in message or "id" not in command else {"id": command["id"]}
                    self._send(message | own_id)

    def _send(self, message: dict[str, Any]) -> None:
        self._peer.sendall(json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        self.thread.run(self.qmp.disconnect(), 5)
        self.thread.close()
        self._server.join(5)


def answers(command: dict[str, Any]) -> list[dict[str, Any]] | None:
    stamp = {"seconds": 1, "microseconds": 0}
    reset = {"event": "RESET", "timestamp": stamp, "data": {"guest": True}}
    replies: dict[str, list[dict[str, Any]] | None] = {
        "query-status": [{"return": {"status": "running"}}],
        "refuse": [{"error": {"class": "GenericError", "desc": "not today"}}],
        "be-silent": [],
        "reset": [reset, {"return": {}}],
        "die": None,
    }
    return replies[command["execute"]]


@pytest.fixture
def link() -> Iterator[Link]:
    link = Link(answers)
    yield link
    link.close()


def test_answer(link: Link) -> None:
    assert link.qmp.execute("query-status") == {"status": "running"}


def test_refusal_names_command_and_reason(link: Link) -> None:
    with pytest.raises(QmpError, match=r"QMP refuse \{'n': 1\}: not today"):
        link.qmp.execute("refuse", {"n": 1})


def test_silence_ends_at_the_deadline_and_the_link_survives(link: Link) -> None:
    with pytest.raises(QmpError, match=r"be-silent: no answer within 0\.05 s"):
        link.qmp.execute("be-silent", timeout=0.05)
    assert link.qmp.execute("query-status") == {"status": "running"}


def test_closed_link_ends_the_wait_and_every_later_command(link: Link) -> None:
    for command in ("die", "query-status"):
        with pytest.raises(QmpError, match=f"{command}: the link to QEMU is lost"):
            link.qmp.execute(command)
    link.thread.run(link.qmp.ended(), 5)


def test_event_before_an_answer_has_arrived_with_it(link: Link) -> None:
    mark = link.events.mark()
    link.qmp.execute("reset")
    assert [(event.name, event.data) for event in link.events.since(mark)] == [("RESET", {"guest": True})]


def test_qemu_that_exits_instead_of_greeting() -> None:
    thread = LoopThread("test")
    own, peer = socket.socketpair()
    peer.close()
    try:
        with pytest.raises(QmpError, match="QMP: "):
            thread.run(Qmp(thread, lambda event: None).connect(own), 5)
    finally:
        thread.close()


def test_events_wait_and_marks() -> None:
    events = Events()
    events.add(Event("STOP", {}))
    mark = events.mark()
    threading.Timer(0.05, lambda: [events.add(Event(name, {})) for name in ("RESUME", "STOP")]).start()
    assert events.wait_for("STOP", 5, since=mark) is events.since(mark)[1]
    with pytest.raises(TimeoutError, match=r"no RESET event within 0\.01 s"):
        events.wait_for("RESET", 0.01)


def test_events_are_bounded() -> None:
    events = Events()
    for number in range(3000):
        events.add(Event("E", {"n": number}))
    assert events.mark() == 3000
    assert len(events.since(0)) == 1000
    assert [event.data["n"] for event in events.since(2998)] == [2998, 2999]
