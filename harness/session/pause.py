# SPDX-License-Identifier: GPL-2.0-only
"""Pause one call between a check and its use, and make another call meanwhile (harness/guest/pause.py)."""

from dataclasses import dataclass
from typing import Any, Literal

from harness.errors import CapabilityMissing, HarnessError, KernelErrno
from harness.session.client import CALL_SECONDS
from harness.session.handle import Handle
from harness.session.races import Operation
from harness.session.session import Session

PausePoint = Literal[
    "attach",
    "map",
    "export",
    "close",
    "insert",
    "fill",
    "pages",
    "fput",
    "umem",
    "unpin",
    "unlock",
    "iova",
    "table",
    "alignment",
]
"""Where the call pauses: at the return of the function that guest-images/importer/uapi.h names for it."""
WAIT_SECONDS = 2.0
"""Time limit for a call to reach its pause, for a slowdown of 1."""


@dataclass(frozen=True)
class Interleaved:
    """How two calls ended, of which the second was made while the first was paused."""

    blocked: bool
    """Whether the second call waited for the first."""
    paused: str
    """The outcome of the first call: "ok" or an errno."""
    meanwhile: str
    """The outcome of the second call."""
    opened: Handle | None
    """The object that the first call opened."""
    opened_meanwhile: Handle | None
    """The object that the second call opened."""

    def __str__(self) -> str:
        """Return the outcomes, for a reason."""
        waited = ", which waited for the first" if self.blocked else ""
        return f"the paused call: {self.paused}; the other: {self.meanwhile}{waited}"


def interleave(
    session: Session, point: PausePoint, paused: Operation, meanwhile: Operation, *, seconds: float
) -> Interleaved:
    """Make the call ``paused``, pause it at ``point``, and make the call ``meanwhile`` before it goes on.

    ``seconds``: how long the second call may take before the first goes on; less than the pause's limit of 2 s, which
    does not grow with the machine's slowdown. Needs the kernel's feature ``kprobes``.

    Raises HarnessError if the first call did not reach the point, or went on too early, and CapabilityMissing if the
    kernel does not have the point's function.
    """
    try:
        result = session.agent.call(
            "pause",
            "interleave",
            point=point,
            paused=_request(paused),
            meanwhile=_request(meanwhile),
            wait_seconds=WAIT_SECONDS * session.machine.slowdown,
            call_seconds=seconds,
            timeout=2 * CALL_SECONDS,
        )
    except KernelErrno as refusal:
        if (refusal.call, refusal.name) == ("IMPORTER_PAUSE", "ENOENT"):
            raise CapabilityMissing(f"this kernel has no function to pause {point} at") from None
        raise
    if not (result["reached"] and result["held"]):
        raise HarnessError(f"{paused.name} was not paused at {point}: {result}")
    first, second = result["outcomes"]
    opened, also = (
        call.opens(ref) if ref is not None and call.opens else None
        for call, ref in zip((paused, meanwhile), result["opened"], strict=True)
    )
    ended = Interleaved(result["blocked"], first, second, opened, also)
    if session.agent.on_call:
        session.agent.on_call(f"{paused.name} paused at {point}, {meanwhile.name} made meanwhile: {ended}")
    return ended


def _request(operation: Operation) -> dict[str, Any]:
    return {"on": operation.on, "do": operation.do, "args": operation.args}
