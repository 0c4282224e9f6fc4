# SPDX-License-Identifier: GPL-2.0-only
"""The machine's second VM, whose rxe reaches memory regions of the machine's own rxe over a private link.

It runs the kernel under test too, but no case judges it: whatever ends it is ERROR.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from harness.errors import GuestLost, HarnessError, ImporterRefused
from harness.session.client import CALL_SECONDS, Agent
from harness.session.handle import Handle
from harness.session.importers import Importer, Storm, Window
from harness.session.wire import Ref
from harness.vm import Machine


@contextmanager
def errors_of_the_peer() -> Iterator[None]:
    """Raise HarnessError for what a kernel would be blamed for in the machine itself."""
    try:
        yield
    except GuestLost as lost:
        error = HarnessError(f"the peer VM: {lost}")
        for note in getattr(lost, "__notes__", ()):
            error.add_note(note)
        raise error from None


class PeerAgent(Agent):
    """The agent of the peer."""

    STEP = "in the peer"

    def call(self, on: str | Ref, do: str, /, *, timeout: float = CALL_SECONDS, **args: Any) -> Any:
        """Call ``do`` in the peer, as ``Agent.call``. Raises HarnessError if the peer hangs, crashes or oopses."""
        with errors_of_the_peer():
            return super().call(on, do, timeout=timeout, **args)


class Peer:
    """The second VM from its boot to its end. Its rxe stays ready from case to case."""

    def __init__(self, exporter: Machine) -> None:
        """``exporter``: the machine of which this is the second VM."""
        assert exporter.peer is not None
        self._exporter = exporter
        self.machine = exporter.peer
        self.killed = False
        """Whether a case has killed it."""
        self._rxe: Ref | None = None

    def start(self) -> None:
        """Wait until it has booted, and start its agent. Raises HarnessError."""
        with errors_of_the_peer():
            self.machine.wait_ready(meanwhile=self._start_agent)

    def _start_agent(self) -> None:
        self.agent = PeerAgent(self.machine)

    def connect(self, importer: Importer) -> "Requester":
        """Connect a queue pair of the peer with one of ``importer``, which is the machine's rxe."""
        nic = self.machine.config.linked_nic
        assert nic is not None
        if self._rxe is None:
            self._rxe = self.agent.call("verbs", "open_rxe", bdf=self.machine.pci_address(nic.id))
        end = importer.agent.call("rdma_peer", "End", rxe=importer)
        requester = Requester(self, self.agent.call("rdma_peer", "End", rxe=self._rxe), importer, self._exporter)
        number, gid = importer.agent.call(end, "number"), importer.agent.call(end, "gid")
        importer.agent.call(end, "connect", number=requester.number(), gid=requester.gid())
        requester.connect(number, gid)
        return requester

    def reset(self) -> list[str]:
        """Close what a case has left open in it. Returns the errors of the closes."""
        if self.killed:
            return []
        keep = [self._rxe] if self._rxe else []
        return cast(list[str], self.agent.call("rpc", "reset_all", keep=keep))

    def kill(self) -> None:
        """Kill its QEMU by SIGKILL. The machine needs a fresh peer, and so a fresh boot, after the case."""
        self.killed = True
        self.machine.kill()

    def close(self) -> None:
        """End its agent."""
        self.agent.close()


class Requester(Handle):
    """The peer's end of a connection. The first refused request ends the connection."""

    def __init__(self, peer: Peer, ref: Ref, importer: Importer, exporter: Machine) -> None:
        super().__init__(peer.agent, ref)
        self._importer = importer
        self._exporter = exporter

    def number(self) -> int:
        """Return the number of the queue pair."""
        return cast(int, self._call("number"))

    def gid(self) -> str:
        """Return the address of the peer's RDMA device."""
        return cast(str, self._call("gid"))

    def connect(self, number: int, gid: str) -> None:
        """Connect to the queue pair ``number`` of the device with the address ``gid``."""
        self._call("connect", number=number, gid=gid)

    def reach(self, window: Window) -> "RemoteWindow":
        """Return the MR of ``window`` as the peer reaches it, by RDMA WRITE and READ."""
        ref = self._call("reach", address=window.start, rkey=window.rkey(), length=window.length)
        return RemoteWindow(self, ref, window, self._exporter)

    def storm(self, window: Window, offset: int, value: int) -> Storm:
        """Write a dword at ``offset`` of the MR of ``window`` again and again, until a write is refused.

        The connection is of no other use then.
        """
        ref = self.agent.call(
            "rdma_peer", "RemoteStorm", end=self, address=window.start + offset, rkey=window.rkey(), value=value
        )
        return Storm(self.agent, ref)


class RemoteWindow(Window):
    """An MR of the machine, used by the peer. A refusal raises ImporterRefused, as for the machine's own rxe."""

    def __init__(self, requester: Requester, ref: Ref, window: Window, exporter: Machine) -> None:
        Handle.__init__(self, requester.agent, ref)
        self.importer, self.dmabuf = window.importer, window.dmabuf
        self.start, self.length = window.start, window.length
        self._exporter = exporter

    def _call(self, do: str, /, *, timeout: float = CALL_SECONDS, **args: Any) -> Any:
        try:
            return super()._call(do, timeout=timeout, **args)
        except ImporterRefused:
            self._exporter.check()  # one that is gone does not answer, which is no refusal of its kernel
            raise
