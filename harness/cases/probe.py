# SPDX-License-Identifier: GPL-2.0-only
"""Ring a doorbell through an importer's window, and judge what both observers saw: the device and the host.

Cases ring the admin queue's doorbell. No importing engine rings that queue once it is set up.
"""

from dataclasses import dataclass, replace

from harness.cases.must import must
from harness.errors import ImporterRefused
from harness.session import Action, Nvme, Pending, QueuedCommand, Window, recording
from harness.witness import DmaFault, Doorbell, Watch

OVERTAKEN = "revoked during the DMA"
"""How the status of a transfer begins if its mapping ended while it ran (harness/guest/importer.py)."""
ARRIVES = "the doorbell and no refusal"
IS_REFUSED = "a DMA fault or a bad status, and no doorbell"
"""What a case expects of a ring, for the reason of a verdict."""
ANSWER_S = 2.0
"""Seconds to wait for a command whose doorbell the host saw."""


@dataclass(frozen=True)
class Ring:
    """The outcome of ringing a doorbell once."""

    doorbells: list[Doorbell]
    """Writes to the doorbell that the host saw."""
    faults: list[DmaFault]
    """DMA faults that the host saw."""
    refused: str | None
    """The importer's bad status; None if it reported success."""
    completed: bool | None = None
    """Whether the device ran the command; None if the case did not look."""

    @property
    def arrived(self) -> bool:
        """The host saw the doorbell, nothing was refused, and the device ran the command, if the case looked."""
        return bool(self.doorbells) and self.completed is not False and not self.faults and not self.refused

    @property
    def blocked(self) -> bool:
        """The host saw no doorbell, the device did not run the command, and a refusal was recorded."""
        return not self.doorbells and not self.completed and (bool(self.faults) or self.refused is not None)

    @property
    def overtaken(self) -> bool:
        """The revoke came during the DMA, and no IOMMU decided whether the doorbell is written (DmaApiWindow.write)."""
        return self.refused is not None and self.refused.startswith(OVERTAKEN) and not self.faults

    @property
    def nothing(self) -> bool:
        """Neither observer saw anything, and nothing was refused."""
        return not (self.doorbells or self.completed or self.faults or self.refused)

    @property
    def values(self) -> list[int | None]:
        """The values written to the doorbell, in order."""
        return [bell.value for bell in self.doorbells]

    def __str__(self) -> str:
        """For the reason of a verdict."""
        completion = {True: "the command completed; ", False: "the command did not complete; ", None: ""}
        bells = ", ".join(map(str, self.doorbells)) or "no doorbell"
        faults = f"{len(self.faults)} DMA faults" if self.faults else "no DMA fault"
        status = f"status {self.refused}" if self.refused else "no bad status"
        return f"{completion[self.completed]}the host saw {bells} and {faults}; the importer gave {status}"


@dataclass(frozen=True)
class RingSeries:
    """Rings made one after the other while a call was running; the last began after the call had returned."""

    rings: list[Ring]

    @property
    def orderly(self) -> bool:
        """Each ring arrived or was blocked, and none arrived after one was blocked.

        Between the last that arrived and the first that was blocked, the revoke may overtake one.
        """
        stages = [_stage(ring) for ring in self.rings]
        return stages == sorted(stages) and stages.count(_OVERTAKEN) <= 1 and _LOST not in stages

    def __str__(self) -> str:
        """For the reason of a verdict: the last eight rings."""
        return " | ".join(map(str, self.rings[-8:]))


_ARRIVED, _OVERTAKEN, _BLOCKED, _LOST = range(4)


def _stage(ring: Ring) -> int:
    """Return how far the revoke was. No revoke explains a ring that is lost."""
    if ring.arrived:
        return _ARRIVED
    if ring.overtaken:
        return _OVERTAKEN
    return _BLOCKED if ring.blocked else _LOST


def ring(
    nvme: Nvme,
    window: Window | None,
    watch: Watch,
    *,
    queued: QueuedCommand | None = None,
    silence: float | None = None,
) -> Ring:
    """Ring a doorbell of ``nvme`` once, and ask the device whether the command ran.

    ``window``: what to ring through; None rings nothing. ``queued``: the command; by default a new Identify.
    ``silence``: seconds that the device gets to run a command whose doorbell the host did not see, for a slowdown of 1.
    None: as many as follow from its latest answers (harness/session/answers.py).
    """
    queued = queued or nvme.queue_identify()
    result = ring_once(queued, window, watch)
    if result.doorbells:
        completion = nvme.completed(queued, ANSWER_S)
    elif silence is None:
        completion = nvme.wrongly_completed(queued)
    else:
        completion = nvme.completed(queued, silence)
    return replace(result, completed=completion is not None)


@recording.ring()
def ring_once(queued: QueuedCommand, window: Window | None, watch: Watch, *, after: Action | None = None) -> Ring:
    """Ring as ``ring`` does, without asking the device: it may be disabled or closed, and asking takes time.

    ``after``: a call in the guest that comes immediately before (``Window.ring_after``).
    """
    mark = watch.mark()
    refused = None
    try:
        if window is not None and after is not None:
            window.ring_after(queued, after)
        elif window is not None:
            window.ring(queued)
    except ImporterRefused as refusal:
        refused = str(refusal)
    doorbells = [bell for bell in watch.doorbells(mark) if (bell.queue, bell.qid) == ("sq", queued.qid)]
    return Ring(doorbells, watch.faults(mark), refused)


def ring_during(pending: Pending[None], queued: QueuedCommand, window: Window, watch: Watch) -> RingSeries:
    """Ring again and again until ``pending`` has returned, and once more."""
    rings: list[Ring] = []
    returned = False
    while not returned:
        returned = pending.done()
        rings.append(ring_once(queued, window, watch))
    pending.result()
    return RingSeries(rings)


def must_arrive(ring: Ring, sentence: str) -> None:
    """State that a ring reached the device. Raises ContractBroken with what was seen and what was expected."""
    must(ring.arrived, sentence, f"{ring}; expected: {ARRIVES}", rule="arrives")


def must_be_blocked(ring: Ring, sentence: str) -> None:
    """State that a ring was refused on its way to the device. Raises ContractBroken as ``must_arrive`` does."""
    must(ring.blocked, sentence, f"{ring}; expected: {IS_REFUSED}", rule="blocked")
