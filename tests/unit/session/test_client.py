# SPDX-License-Identifier: GPL-2.0-only
"""The client against the real agent, which runs on this host in place of a guest."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import harness.guest
from harness.errors import AgentError, AgentLost, GuestHung, HarnessError, KernelErrno
from harness.image.agent import START
from harness.session import client
from harness.session.client import Agent, Pending
from harness.vm import Machine

READ = "import sys; application = sys.stdin.buffer.read(int(sys.stdin.buffer.readline()))\n"
"""Read the application, which is larger than a pipe: whoever sends it would wait for ever."""
# In memory, since a process that is killed removes no file.
LOADER = f"""{READ}
import os, zipimport
file = os.memfd_create("agent")
os.write(file, application)
path = f"/proc/self/fd/{{file}}"
sys.path.insert(0, path)
exec(zipimport.zipimporter(path).get_code("__main__"), {{"__name__": "__main__"}})
"""


FOLDER = Path(harness.guest.__file__).parent


def application() -> bytes:
    """Return the agent as source, which this host's interpreter can run."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("__main__.py", START)
        for path in FOLDER.rglob("*.py"):
            archive.write(path, f"agent/{path.relative_to(FOLDER)}")
    return file.getvalue()


class Channel:
    """The part of a paramiko channel that the client uses, over the pipes of a process."""

    def __init__(self, program: str) -> None:
        self._command = [sys.executable, "-c", program]
        self.status_event = SimpleNamespace(wait=self._wait_for_status)
        self.ends_unread = False
        """The program ends before the client sends anything."""

    def settimeout(self, seconds: float) -> None:
        pass

    def exec_command(self, command: str) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
        if self.ends_unread:
            self.process.wait()

    def sendall(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)

    def recv(self, size: int) -> bytes:
        assert self.process.stdout is not None
        return os.read(self.process.stdout.fileno(), size)

    def recv_stderr_ready(self) -> bool:
        return self.exit_status_ready()

    def recv_stderr(self, size: int) -> bytes:
        assert self.process.stderr is not None
        return os.read(self.process.stderr.fileno(), size)

    def _wait_for_status(self, seconds: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def exit_status_ready(self) -> bool:
        return self.process.poll() is not None

    def recv_exit_status(self) -> int:
        return self.process.wait(0)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()


class FakeMachine:
    """A machine that never ends. ``patience`` scales its deadlines."""

    slowdown = 1.0
    agent = SimpleNamespace(read_bytes=application)

    def __init__(self, program: str, patience: float = 1.0, ends_unread: bool = False) -> None:
        self.channel = Channel(program)
        self.channel.ends_unread = ends_unread
        self._patience = patience

    def ssh(self) -> Any:
        return SimpleNamespace(get_transport=lambda: SimpleNamespace(open_session=lambda timeout: self.channel))

    def wait_for(self, future: Future[Any], timeout: float, what: str) -> Any:
        try:
            return future.result(timeout * self._patience)
        except TimeoutError:
            raise GuestHung(what) from None


@contextmanager
def started(
    program: str = LOADER, patience: float = 1.0, ends_unread: bool = False
) -> Iterator[tuple[Agent, FakeMachine]]:
    machine = FakeMachine(program, patience, ends_unread)
    try:
        yield Agent(cast(Machine, machine)), machine
    finally:
        process = machine.channel.process
        process.kill()
        process.wait()
        for thread in threading.enumerate():
            if thread.name == "agent":
                thread.join(5)
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def test_hello_and_calls() -> None:
    with started() as (agent, machine):
        assert agent.hello["pid"] == machine.channel.process.pid
        assert agent.call("pci", "driver", bdf="0000:ff:1f.7") is None
        assert agent.call("rpc", "reset_all", keep=[]) == []


def test_a_kernels_errno_names_the_call() -> None:
    with started() as (agent, _):
        with pytest.raises(KernelErrno, match=r"open /dev/vfio/.*ENO|readlink|iommu_group") as caught:
            agent.call("container", "Group", bdf="0000:ff:1f.7")
        assert caught.value.name == "ENOENT"


@pytest.mark.parametrize(("on", "do"), [("pci", "nonsense"), ("os", "system"), ("rpc", "_send"), ("pci", "rescan.x")])
def test_a_wrong_call_is_an_agent_error_and_the_agent_goes_on(on: str, do: str) -> None:
    with started() as (agent, _):
        with pytest.raises(AgentError, match="Error"):
            agent.call(on, do)
        assert agent.call("pci", "driver", bdf="0000:ff:1f.7") is None


def test_a_killed_agent_is_lost_at_once_and_stays_lost() -> None:
    with started() as (agent, machine):
        machine.channel.process.send_signal(signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(AgentLost, match="agent"):
                agent.call("pci", "driver", bdf="0000:ff:1f.7")


def test_the_agent_ends_with_its_channel() -> None:
    with started() as (agent, machine):
        agent.close()
        assert machine.channel.process.wait(10) == 0


@pytest.mark.parametrize("ends_unread", [False, True])
def test_the_error_has_the_agents_status_and_stderr(ends_unread: bool) -> None:
    with (
        pytest.raises(AgentLost, match=r"with status 3; its stderr:\nno room"),
        started("import sys; print('no room', file=sys.stderr); sys.exit(3)", ends_unread=ends_unread),
    ):
        pass


@pytest.mark.parametrize(
    "output", ["'garbage'", "'[1]'", "'{\"id\": 77}'", "'x' * (9 << 20)"], ids=["text", "list", "stranger", "endless"]
)
def test_a_guest_that_breaks_the_protocol_is_lost(output: str) -> None:
    with pytest.raises(AgentLost, match="protocol"), started(f"{READ}print({output}, flush=True); input()"):
        pass


def test_silence_is_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "END_SECONDS", 0.01)
    with pytest.raises(GuestHung, match="hello"), started(f"{READ}import signal; signal.pause()", patience=0.01):
        pass


ECHO = (
    READ
    + """
import json
print('{"hello": {}}', flush=True)
held = [json.loads(sys.stdin.readline()) for _ in range(2)]
for request in reversed(held):
    print(json.dumps({"id": request["id"], "ok": [request["do"], request["thread"]]}), flush=True)
input()
"""
)


def test_replies_may_come_out_of_order_and_a_pending_call_runs_on_a_thread() -> None:
    with started(ECHO) as (agent, machine):
        pending = Pending(cast(Machine, machine), lambda: agent.call("vfio", "slow"))
        assert agent.call("vfio", "quick") == ["quick", False]
        assert pending.result() == ["slow", True]
        assert pending.done()


def test_a_pending_call_is_sent_before_the_call_that_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent reads requests in order: behind one that blocks it would read the pending one too late."""
    with started(ECHO) as (agent, machine):
        sent: list[bytes] = []
        send = machine.channel.sendall
        monkeypatch.setattr(machine.channel, "sendall", lambda line: (sent.append(line), send(line)))

        def slow() -> object:
            time.sleep(0.2)  # a busy host starts the thread late
            return agent.call("vfio", "slow")

        pending = Pending(cast(Machine, machine), slow)
        agent.call("vfio", "quick")
        pending.result()
        assert [b"slow" in line for line in sent] == [True, False]


def test_a_pending_function_without_a_call_blocks_no_call() -> None:
    with started(ECHO) as (_, machine):
        assert Pending(cast(Machine, machine), lambda: 7).result() == 7
        release = threading.Event()
        pending = Pending(cast(Machine, machine), release.wait, calls_guest=False)
        assert not pending.done()
        release.set()
        assert pending.result()


def test_a_pending_call_that_is_not_sent_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CALL_SECONDS", 0.05)
    release = threading.Event()
    with started(ECHO) as (_, machine), pytest.raises(HarnessError, match="was not sent"):
        Pending(cast(Machine, machine), release.wait)
    release.set()


def test_parallel_calls_get_their_own_answers() -> None:
    with started() as (agent, _):
        answers: dict[int, Any] = {}

        def call(number: int) -> None:
            try:
                agent.call("container", "Group", bdf=f"0000:ff:{number:02x}.0")
            except KernelErrno as exc:
                answers[number] = exc.call

        threads = [threading.Thread(target=call, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert all(f"ff:{number:02x}.0" in answers[number] for number in range(16))
