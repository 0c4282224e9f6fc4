# SPDX-License-Identifier: GPL-2.0-only
"""The timeline of a case as text, for a mail: what the guest did, and what the host observed of the devices."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.report.text import cut
from harness.report.timeline_marks import Kind, Lane, looks
from harness.verdict import Evidence

MOST = 24
"""Lines. Calls without a meaning of their own are left out first, then the earliest lines."""
WIDTH = 96
"""Characters of a line."""

_HOUSEKEEPING = ("rpc.", "references.")
"""The modules of the agent whose calls clean up after a case: they say nothing about the kernel."""


@dataclass(frozen=True)
class _Line:
    t: float
    observer: str
    """``guest`` or ``host``."""
    label: str
    text: str
    telling: bool
    """Whether the observation has a meaning of its own."""


def timeline_text(evidence: Iterable[Evidence], most: int = MOST) -> list[str]:
    """Return a line for each observation of a case, in order of time: seconds, observer, meaning and text.

    Splats are left out, which a mail has as the kernel wrote them, and so is what cleans up after the case. At most
    ``most`` lines; the first one then says how many observations are not shown."""
    seen = _lines(sorted(evidence, key=lambda item: item.t))
    shown = seen if len(seen) <= most else [line for line in seen if line.telling] or seen
    shown = shown[-most:]
    left_out = len(seen) - len(shown)
    width = max((len(line.label) for line in shown), default=0)
    lines = [cut(f"{line.t:8.3f} {line.observer:5} {line.label:{width}}  {line.text}", WIDTH) for line in shown]
    return [f"({left_out} more observations)", *lines] if left_out else lines


def _lines(items: Sequence[Evidence]) -> list[_Line]:
    return [
        _Line(
            item.t,
            "guest" if look.lane is Lane.GUEST else "host",
            look.label or look.kind,
            item.text.strip().partition("\n")[0].replace("\t", " "),
            look.kind is not Kind.CALL,
        )
        for item, look in zip(items, looks(items), strict=True)
        if look.kind is not Kind.SPLAT and not item.text.startswith(_HOUSEKEEPING)
    ]
