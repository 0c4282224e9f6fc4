# SPDX-License-Identifier: GPL-2.0-only
"""A forked process answers requests about the agent's objects, passes fds, and dies when it is killed."""

import io
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from harness.guest import processes, resource
from harness.guest.dmabuf import OtherFile
from harness.guest.processes import Process
from harness.guest.repeat import call
from harness.guest.resource import File, close_all
from harness.guest.rpc import Server


@pytest.fixture(autouse=True)
def _nothing_open() -> Iterator[None]:
    resource._live.clear()
    yield
    assert close_all() == []


@pytest.fixture
def server() -> Server:
    return Server(io.BytesIO(), io.BytesIO())


def ask(process: Process, on: Any, do: str, **args: Any) -> dict[str, Any]:
    reply: dict[str, Any] = json.loads(
        process.ask(json.dumps({"id": 1, "on": on, "do": do, "args": args}).encode() + b"\n")
    )
    return reply


def number(server: Server, thing: resource.Resource) -> int:
    found: int = server._encode(thing)["$object"]
    return found


def test_a_forked_process_has_its_own_copy_of_each_fd(server: Server) -> None:
    readable, writable = os.pipe()
    writer = File(writable)
    on = number(server, writer)
    process = server.fork()
    writer.close()
    os.set_blocking(readable, False)
    with pytest.raises(BlockingIOError):  # not the end of file: the process has the other end open
        os.read(readable, 1)
    assert ask(process, on, "close") == {"id": 1, "ok": None}
    assert os.read(readable, 1) == b""
    os.close(readable)


def test_a_forked_process_reports_errors_like_the_agent(server: Server) -> None:
    process = server.fork()
    assert ask(process, "pci", "unknown")["defect"]
    assert ask(process, "dmabuf", "OtherFile", kind="none")["ok"] == {"$object": 1}


def test_a_killed_process_ends_its_calls(server: Server) -> None:
    process = server.fork()
    assert not process.ended(0.0)
    process.kill()
    assert process.ended(5.0)
    assert process.ask(b"{}\n") == b""
    process.close()


def test_fds_travel_both_ways(server: Server) -> None:
    readable, writable = os.pipe()
    writer = File(writable)
    on = number(server, writer)
    process = server.fork()
    assert ask(process, "processes", "send", file={"$object": on}) == {"id": 1, "ok": None}
    copy = process.receive_dmabuf()
    os.write(copy.fd, b"x")
    assert os.read(readable, 1) == b"x"
    ask(process, on, "close")
    copy.close()
    process.send(writer)
    writer.close()
    os.set_blocking(readable, False)
    with pytest.raises(BlockingIOError):  # the copy in flight keeps the pipe open
        os.read(readable, 1)
    process.close()
    assert os.read(readable, 1) == b""
    os.close(readable)
    assert not processes._parent


def test_repeated_calls_give_their_different_errnos() -> None:
    class Moody(File):
        def __init__(self) -> None:
            super().__init__(os.open("/dev/null", os.O_RDONLY))
            self.calls = 0

        def act(self, refused: int) -> File | None:
            self.calls += 1
            if self.calls % 2:
                raise OSError(refused, "refused")
            return OtherFile("memfd")

    moody = Moody()
    assert call(moody, "act", {"refused": 22}, 4) == [0, 22]
    moody.close()
    assert not resource._live, "what a call opens is closed"
