# SPDX-License-Identifier: GPL-2.0-only
"""Act through an importer's window, and ask both observers, the guest's device and the host, what arrived."""

from dataclasses import dataclass, replace

from harness.errors import ImporterRefused
from harness.session import Nvme, Pending, QueuedCommand, Window
from harness.witness import DmaFault, Doorbell, Watch

SILENCE_S = 0.15
"""How long a command that must not run is given to run anyway; one that was rung needs a few milliseconds."""
ANSWER_S = 2.0


@dataclass(frozen=True)
class Ring:
    """What became of one ring of a doorbell.

    ``completed``: whether the device acted, None where it could not be asked. The host saw ``doorbells`` and
    ``faults``; ``refused`` is the importer's status, if it gave a bad one.
    """

    doorbells: list[Doorbell]
    faults: list[DmaFault]
    refused: str | None
    completed: bool | None = None

    @property
    def arrived(self) -> bool:
        """The host saw the doorbell, the device acted on it, and nobody refused anything."""
        return bool(self.doorbells) and self.completed is not False and not self.faults and not self.refused

    @property
    def blocked(self) -> bool:
        """The host saw no doorbell, the device did not act, and somebody recorded a refusal."""
        return not self.doorbells and not self.completed and (bool(self.faults) or self.refused is not None)

    @property
    def nothing(self) -> bool:
        """Nobody saw anything at all."""
        return not (self.doorbells or self.completed or self.faults or self.refused)

    @property
    def values(self) -> list[int | None]:
        """What was written to the doorbell, in order."""
        return [bell.value for bell in self.doorbells]

    def __str__(self) -> str:
        """For the reason of a verdict."""
        ran = {True: "the command completed", False: "the command did not complete", None: "nobody asked the device"}
        bells = ", ".join(map(str, self.doorbells)) or "no doorbell"
        faults = f"{len(self.faults)} DMA faults" if self.faults else "no DMA fault"
        status = f"status {self.refused}" if self.refused else "no bad status"
        return f"{ran[self.completed]}; the host saw {bells} and {faults}; the importer gave {status}"


@dataclass(frozen=True)
class RingSeries:
    """Rings made while something else was under way, in order; the last began after it had ended."""

    rings: list[Ring]

    @property
    def orderly(self) -> bool:
        """Each ring arrived or was blocked, and none arrived after one was blocked."""
        fates = ["arrived" if ring.arrived else "blocked" if ring.blocked else "lost" for ring in self.rings]
        return fates == sorted(fates) and "lost" not in fates

    def __str__(self) -> str:
        """For the reason of a verdict."""
        return " | ".join(map(str, self.rings[-8:]))


def queue_command(nvme: Nvme) -> QueuedCommand:
    """Queue a command on the admin queue, which no importing engine rings once it is set up; nothing rings it yet."""
    return nvme.queue_identify()


def ring_once(queued: QueuedCommand, window: Window | None, watch: Watch) -> Ring:
    """Ring the queued's doorbell through ``window`` (None: nobody rings), without asking the device about it."""
    mark = watch.mark()
    refused = None
    try:
        if window is not None:
            window.ring(queued)
    except ImporterRefused as refusal:
        refused = str(refusal)
    doorbells = [bell for bell in watch.doorbells(mark) if (bell.queue, bell.qid) == ("sq", queued.qid)]
    return Ring(doorbells, watch.faults(mark), refused)


def ring(nvme: Nvme, queued: QueuedCommand, window: Window | None, watch: Watch, silence: float = SILENCE_S) -> Ring:
    """As ``ring_once``, then ask the device whether the command ran: for ``silence`` s if the host saw no doorbell."""
    shot = ring_once(queued, window, watch)
    completion = nvme.completed(queued, ANSWER_S if shot.doorbells else silence)
    return replace(shot, completed=completion is not None)


def ring_during(pending: Pending[None], queued: QueuedCommand, window: Window, watch: Watch) -> RingSeries:
    """Ring again and again until ``pending`` has ended, and once more."""
    rings: list[Ring] = []
    ended = False
    while not ended:
        ended = pending.done()
        rings.append(ring_once(queued, window, watch))
    pending.result()
    return RingSeries(rings)
