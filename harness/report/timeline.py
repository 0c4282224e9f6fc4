# SPDX-License-Identifier: GPL-2.0-only
"""The picture of a case: its evidence in five lanes over time. ``templates/timeline.html`` draws it as SVG.

The axis is linear, but long waits are cut out, so that the observations around them do not shrink to one mark. A call
into the guest is a bar: the record has its end, and it began after the call before it.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from harness.report.text import one_line
from harness.report.timeline_marks import Kind, Lane, Look, looks
from harness.verdict import Evidence

WIDTH = 960
"""Units of the SVG; about one pixel each."""
LEFT = 92
"""Where the lanes begin. Their names stand before it."""
RIGHT = WIDTH - 8
TOP = 18
"""Height of the axis."""
LANE = 16
"""Height of a lane without labels."""
LABEL_ROW = 12
LABEL_ROWS = 2
"""A label that fits into no row is left out. Its mark still has it, as the text on hover."""
CHARACTER = 6.2
"""Width of a character of a label."""
BREAK = 44
"""Width of a wait that is cut out."""
MOST_BREAKS = 4
LEAST_TIMES = 8
"""With fewer, every wait is long, and none is cut out."""
TICKS = 7
TICK = 44
"""Width of the text of a tick."""
MOST_MARKS = 100
"""In a lane. More are merged with their neighbours of the same kind."""
MOST_BRIEF_MARKS = 14
"""In a brief picture: marks that have a meaning. All others are one path for each lane, without text."""
TITLE, BRIEF_TITLE = 160, 48
"""Characters of the text on hover."""

SHORTEST_S, LONGEST_S = 1e-6, 1e7
"""Seconds. Other times stand for these, so that no record makes the arithmetic overflow."""

_LABEL_ORDER = (
    Kind.SPLAT,
    Kind.FAULT,
    Kind.REVOKE,
    Kind.RACE,
    Kind.DOORBELL,
    Kind.ACCESS,
    Kind.EXPORT,
    Kind.NOTIFIED,
    Kind.UNREVOKE,
    Kind.MAP,
    Kind.GAP,
)
"""Which labels get their place first."""


@dataclass(frozen=True)
class Mark:
    """One observation, or several of one kind that lie close together."""

    x: int
    width: int
    kind: Kind
    label: str
    title: str
    """The text on hover."""


@dataclass(frozen=True)
class Label:
    """A word at a mark."""

    x: int
    y: int
    kind: Kind
    text: str


@dataclass
class LanePicture:
    """One lane."""

    name: Lane
    top: int = 0
    height: int = LANE
    marks: list[Mark] = field(default_factory=list)
    plain: str = ""
    """In a brief picture, the marks without a meaning: the data of one SVG path."""
    labels: list[Label] = field(default_factory=list)

    @property
    def base(self) -> int:
        """The y coordinate of the middle of its marks."""
        return self.top + self.height - LANE // 2


@dataclass(frozen=True)
class Cut:
    """A wait that the axis leaves out."""

    x: int
    width: int
    text: str


@dataclass(frozen=True)
class Picture:
    """What the template draws."""

    height: int
    lanes: list[LanePicture]
    ticks: list[tuple[int, str]]
    cuts: list[Cut]
    revoked: list[tuple[int, int]]
    """Where buffers of the device were revoked: x and width."""
    note: str
    """What the picture leaves out; empty if nothing."""


@dataclass(frozen=True)
class _Seen:
    begin: float
    end: float
    look: Look
    text: str


@dataclass(frozen=True)
class _Groups:
    groups: list[list[_Seen]]
    merged: bool
    """Whether neighbours had to be merged."""


class Axis:
    """Maps seconds to x coordinates. ``times``: when something happened, sorted, at least one."""

    def __init__(self, times: Sequence[float]) -> None:
        self.begin, self.end = times[0], times[-1]
        self.cut: list[tuple[float, float]] = []
        left = self.end - self.begin
        for gap in sorted(pairwise(times), key=lambda gap: gap[0] - gap[1]):
            length = gap[1] - gap[0]
            if len(self.cut) == MOST_BREAKS or len(times) < LEAST_TIMES or length <= (left - length) / 3:
                break
            self.cut.append(gap)
            left -= length
        self.cut.sort()
        self.left = max(left, SHORTEST_S)
        self._scale = (RIGHT - LEFT - BREAK * len(self.cut)) / self.left

    def x(self, t: float) -> int:
        """Return the x coordinate of a time."""
        x = LEFT + (min(max(t, self.begin), self.end) - self.begin) * self._scale
        for begin, end in self.cut:
            if t <= begin:
                break
            inside = min(t, end) - begin
            x += BREAK * inside / (end - begin) - inside * self._scale
        return round(x)

    def ticks(self) -> list[tuple[int, str]]:
        """Return x and text of each tick: at round times outside the cuts, none too close to the one before it."""
        step = _round_step(self.left / TICKS)
        found: list[tuple[int, str]] = []
        number = math.ceil(self.begin / step)
        while number * step <= self.end:
            t = number * step
            number += 1
            inside = next((cut for cut in self.cut if cut[0] < t < cut[1]), None)
            if inside:
                number = max(number, math.floor(inside[1] / step))
            elif self._has_room(self.x(t), found):
                found.append((self.x(t), f"{t:.{max(0, -math.floor(math.log10(step)))}f} s"))
        return found

    def _has_room(self, x: int, ticks: Sequence[tuple[int, str]]) -> bool:
        cuts = (self.x(begin) for begin, _ in self.cut)
        return (
            x + TICK <= WIDTH
            and all(not cut - TICK < x < cut + BREAK for cut in cuts)
            and (not ticks or x - ticks[-1][0] >= TICK)
        )


def picture(evidence: Iterable[Evidence], *, brief: bool = False) -> Picture | None:
    """Return the picture of a case's evidence; None without any. Its size has a limit, however long the evidence is.

    ``brief``: only marks with a meaning have a text on hover, and at most ``MOST_BRIEF_MARKS`` of them.
    """
    seen = _seen(evidence)
    if not seen:
        return None
    axis = Axis(sorted({t for each in seen for t in (each.begin, each.end)}))
    groups = {lane: _groups([each for each in seen if each.look.lane is lane], axis) for lane in Lane}
    marks = {lane: [_mark(group, axis, brief) for group in groups[lane].groups] for lane in Lane}
    lanes, top = [], TOP
    named = _budget(marks, brief)
    for name in Lane:
        lane = LanePicture(name, top)
        lane.marks = [mark for mark in marks[name] if not brief or mark in named]
        _place_labels(lane)
        lane.plain = _path((mark for mark in marks[name] if brief and mark not in named), lane.base)
        lanes.append(lane)
        top += lane.height
    cuts = [Cut(axis.x(begin), BREAK, f"{end - begin:.3g} s") for begin, end in axis.cut]
    merged = any(each.merged for each in groups.values())
    note = f"{len(seen)} observations: neighbours of one kind are drawn as one" if merged else ""
    return Picture(top, lanes, axis.ticks(), cuts, _revoked(seen, axis), note)


def _seen(evidence: Iterable[Evidence]) -> list[_Seen]:
    items = sorted((item for item in evidence if math.isfinite(item.t)), key=lambda item: item.t)
    seen, last = [], LONGEST_S  # the beginning of the first call is not known
    for item, look in zip(items, looks(items), strict=True):
        begin = end = min(max(item.t, 0.0), LONGEST_S)
        if item.source == "guest":
            begin, last = min(last, end), end
        seen.append(_Seen(begin, end, look, item.text))
    return seen


def _groups(seen: Sequence[_Seen], axis: Axis) -> _Groups:
    """Group what one mark shows: equal observations at one place, and neighbours until there are few enough marks."""
    groups = _by(seen, lambda each: (axis.x(each.begin), axis.x(each.end), each.look))
    merged = len(groups) > MOST_MARKS
    width = 2.0
    while len(groups) > MOST_MARKS and width < 2 * WIDTH:
        groups = _near(seen, axis, width)
        width *= 2
    return _Groups(groups, merged)


def _near(seen: Iterable[_Seen], axis: Axis, width: float) -> list[list[_Seen]]:
    return _by(seen, lambda each: (int(axis.x(each.end) / width), each.look.kind))


def _by(seen: Iterable[_Seen], key: Callable[[_Seen], Hashable]) -> list[list[_Seen]]:
    found: dict[Hashable, list[_Seen]] = {}
    for each in seen:
        found.setdefault(key(each), []).append(each)
    return list(found.values())


def _mark(group: Sequence[_Seen], axis: Axis, brief: bool) -> Mark:
    first, last = group[0], group[-1]
    x = axis.x(first.begin)
    words = one_line(first.text, BRIEF_TITLE if brief else TITLE)
    title, label = f"{first.end:.3f} s  {words}", first.look.label
    if len(group) > 1:
        title = f"{len(group)} observations from {first.end:.3f} s to {last.end:.3f} s; the first: {words}"
        label = f"{len(group)} x {label}" if label else ""
    return Mark(x, max(2, axis.x(last.end) - x), first.look.kind, label, title)


def _budget(marks: dict[Lane, list[Mark]], brief: bool) -> set[Mark]:
    """Return the marks that a brief picture names: those whose kind counts most, the latest first."""
    if not brief:
        return set()
    order = {kind: place for place, kind in enumerate(_LABEL_ORDER)}
    with_meaning = [mark for each in marks.values() for mark in each if mark.kind in order]
    with_meaning.sort(key=lambda mark: (order[mark.kind], -mark.x))
    return set(with_meaning[:MOST_BRIEF_MARKS])


def _path(marks: Iterable[Mark], y: int) -> str:
    """Return the SVG path of marks without text. Those that touch are one stroke."""
    spans: list[list[int]] = []
    for mark in sorted(marks, key=lambda mark: mark.x):
        if spans and mark.x <= spans[-1][1] + 1:
            spans[-1][1] = max(spans[-1][1], mark.x + mark.width)
        else:
            spans.append([mark.x, mark.x + mark.width])
    return "".join(f"M{begin} {y}h{end - begin}" for begin, end in spans)


def _place_labels(lane: LanePicture) -> None:
    """Place the labels that fit, those that count most first, and give the lane the height that they need."""
    taken: list[list[tuple[float, float]]] = [[] for _ in range(LABEL_ROWS)]
    placed: list[tuple[Mark, int]] = []
    order = {kind: place for place, kind in enumerate(_LABEL_ORDER)}
    for mark in sorted(lane.marks, key=lambda mark: (order.get(mark.kind, len(order)), mark.x)):
        begin = _label_x(mark)
        span = (begin - 3, begin + len(mark.label) * CHARACTER + 3)
        row = next((row for row in range(LABEL_ROWS) if mark.label and _is_free(taken[row], span)), None)
        if row is not None:
            taken[row].append(span)
            placed.append((mark, row))
    rows = max((row for _, row in placed), default=-1) + 1
    lane.height = LANE + rows * LABEL_ROW
    for mark, row in placed:
        y = lane.top + (rows - row) * LABEL_ROW
        lane.labels.append(Label(_label_x(mark), y, mark.kind, mark.label))


def _label_x(mark: Mark) -> int:
    return min(mark.x, RIGHT - round(len(mark.label) * CHARACTER))


def _is_free(taken: Iterable[tuple[float, float]], span: tuple[float, float]) -> bool:
    return all(span[1] <= begin or end <= span[0] for begin, end in taken)


def _revoked(seen: Iterable[_Seen], axis: Axis) -> list[tuple[int, int]]:
    """Return where buffers were revoked. A reset revokes only while it lasts."""
    found, since = [], None
    for each in seen:
        if each.look.revoked is False and since is not None:
            found.append((since, each.end))
            since = None
        elif each.look.revoked is True:
            since = each.begin if since is None else since
        elif each.look.kind is Kind.REVOKE and since is None:
            found.append((each.begin, each.end))
    if since is not None:
        found.append((since, axis.end))
    spans = [(axis.x(begin), max(2, axis.x(end) - axis.x(begin))) for begin, end in found]
    return list(dict.fromkeys(spans))[:MOST_MARKS]


def _round_step(least: float) -> float:
    if least <= 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(least))
    return next((factor * power for factor in (1, 2, 5) if factor * power >= least), 10 * power)
