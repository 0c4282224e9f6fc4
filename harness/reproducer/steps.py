# SPDX-License-Identifier: GPL-2.0-only
"""Read a recording, and find the step that shows the bug and how a program in the guest can judge it."""

import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from harness.errors import UsageError
from harness.reproducer import expand
from harness.reproducer.calls import CALLS, OBSERVING, SKIPPED, SKIPPED_CALLS
from harness.reproducer.recorded import ObjectRef, decode, objects
from harness.reproducer.row import Row

Step: TypeAlias = Mapping[str, Any]
Judgement = Literal["ring", "refusal", "acceptance", "import", "value", "growth", "statuses", "log", "host"]
"""How the program judges.

``ring``: by its last doorbell. ``refusal``: its last call must be refused. ``acceptance``: its last call must succeed.
``import``: a call must be refused that gives an importer access. ``value``: the result of its last call is as recorded
if the bug is there. ``growth``: so is the difference of two results. ``statuses``: so are those of its last transfers,
some of which the importer's device refused. ``log``: by the kernel's log alone. ``host``: not
at all, since only an observer outside the program sees the bug.
"""

IN_THE_PEER = "in the peer"
REFUSED = re.compile(r"the kernel refused: (?P<call>\S+) gave (?P<errno>[A-Z0-9]+)")
"""The reason of a case that an errno ended (harness/run/judge.py)."""
STATUS = re.compile(r"IBV_WC_\w+")
"""That of a case that a transfer's status ended."""


@dataclass(frozen=True)
class JudgedSteps:
    """The part of a recording that a program repeats, and how the program judges it."""

    steps: Sequence[Step]
    """Up to the step that shows the bug."""
    judgement: Judgement
    sentence: str
    """The rule that the kernel broke."""
    at: int = -1
    """The index of the call that is judged, for ``acceptance``, ``import``, ``value`` and ``growth``; of the first of
    those for ``statuses``."""
    against: int = -1
    """The index of the earlier call, for ``growth``."""
    classes: Mapping[int, str] = field(default_factory=dict)
    """The class of each object, by its number."""


def load(path: Path) -> list[Step]:
    """Read a recording. Raises UsageError naming the file."""
    try:
        steps = json.loads(path.read_text(encoding="utf-8"), object_hook=decode)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path}: not a recording of a case: {error}") from None
    if not (isinstance(steps, list) and all(isinstance(step, dict) for step in steps)):
        raise UsageError(f"{path}: not a recording of a case: it must be a list of steps")
    return steps


def judged_steps(steps: Sequence[Step], reason: str) -> JudgedSteps:
    """Find the step that shows the bug. ``reason``: that of the case's verdict. UsageError for a call without a row."""
    if any(step.get("call") == ["fail_nth", "begin"] for step in steps):
        raise UsageError("no C program can repeat a case whose allocations failed one by one (--fail-nth)")
    steps = _without_unused(expand.expand(_until_the_end(steps)))
    classes = _classes(steps)
    broken = next((index for index, step in enumerate(steps) if step.get("check") and not step["holds"]), None)
    if broken is None:
        return _without_a_check(steps, reason, classes)
    step, kept = steps[broken], steps[:broken]
    sentence = step["check"]
    if step["rule"] in ("arrives", "blocked"):
        return JudgedSteps([*kept, step], "ring", sentence, classes=classes)
    if kept and "expected" in kept[-1]:
        return JudgedSteps(kept, "refusal", sentence, classes=classes)
    return _generic(kept, sentence, classes)


def _until_the_end(steps: Sequence[Step]) -> list[Step]:
    """Cut off what happens once the case has ended."""
    for index, step in enumerate(steps):
        if step.get("call") == ["rpc", "reset_all"]:
            return list(steps[:index])
    return list(steps)


def _without_unused(steps: Sequence[Step]) -> list[Step]:
    """Leave out what made objects of earlier cases that this case does not use."""
    used: set[int] = set()
    kept: list[Step] = []
    for step in reversed(steps):
        made = step.get("ok")
        if step.get("earlier") and isinstance(made, ObjectRef) and made.number not in used:
            continue
        used |= set(objects([step.get("call"), step.get("args"), step.get(expand.PROCESS)]))
        kept.append(step)
    return kept[::-1]


def _without_a_check(steps: Sequence[Step], reason: str, classes: Mapping[int, str]) -> JudgedSteps:
    if found := REFUSED.match(reason):
        for index in reversed(range(len(steps))):
            if (steps[index].get("of"), steps[index].get("errno")) == (found["call"], found["errno"]):
                return JudgedSteps(
                    steps[: index + 1], "acceptance", "the kernel accepts the call", index, classes=classes
                )
    if refusal := STATUS.match(reason):
        for index in reversed(range(len(steps))):
            if steps[index].get("refused") == refusal[0]:
                sentence = "the importer's device accepts the transfer"
                return JudgedSteps(steps[: index + 1], "acceptance", sentence, index, classes=classes)
    return JudgedSteps(steps, "log", "the kernel complains about nothing", classes=classes)


def _generic(steps: Sequence[Step], sentence: str, classes: Mapping[int, str]) -> JudgedSteps:
    """Judge by the calls since the last check that held."""
    last_check = max((index for index, step in enumerate(steps) if "check" in step), default=-1)
    # The program does not know which of a series of doorbells must arrive. A check with a rule says it of one.
    last_ring = max((index for index, step in enumerate(steps) if "ring" in step), default=-1)
    # The outcome of two interleaved calls is nearer to the failure than the calls before them.
    last_pause = max((index for index, step in enumerate(steps) if expand.CALLS in step), default=-1)
    first = max(last_check + 1, last_ring + 1, last_pause)
    region = [index for index in range(first, len(steps)) if row_of(steps[index], classes)]
    judgement, at, against = _judged_by(steps, region, last_check + 1, classes)
    return JudgedSteps(steps, judgement, sentence, at, against, classes)


def _judged_by(
    steps: Sequence[Step], region: Sequence[int], start: int, classes: Mapping[int, str]
) -> tuple[Judgement, int, int]:
    """Return how the calls of ``region``, all from ``start`` that have a row, are judged, and by which of them."""

    def last(wanted: Callable[[int], object]) -> int | None:
        return next(filter(wanted, reversed(region)), None)

    def has_value(index: int) -> bool:
        return value_of(steps[index], classes) is not None

    if any("witness" in step or _observes(step, classes) for step in steps[start:]):
        return "host", -1, -1
    if region and "errno" in steps[region[-1]]:
        return "acceptance", region[-1], -1
    transfers = list(itertools.takewhile(lambda index: _row(steps, index, classes).status, reversed(region)))
    if any("refused" in steps[index] for index in transfers):
        return "statuses", transfers[-1], -1
    measured = last(lambda index: _row(steps, index, classes).measure)
    earlier = [index for index in range(measured or 0) if measured and _same_call(steps[index], steps[measured])]
    candidates: tuple[tuple[Judgement, int | None], ...] = (
        ("growth", measured if earlier else None),
        ("value", last(lambda index: _row(steps, index, classes).reads and has_value(index))),
        ("import", last(lambda index: _row(steps, index, classes).imports and "ok" in steps[index])),
        ("value", last(has_value)),
    )
    for judgement, at in candidates:
        if at is not None:
            return judgement, at, earlier[-1] if judgement == "growth" else -1
    return "host", -1, -1


def _observes(step: Step, classes: Mapping[int, str]) -> bool:
    on, do = step.get("call", ("", ""))
    return (name_of(on, classes), do) in OBSERVING


def _same_call(one: Step, other: Step) -> bool:
    return (one.get("call"), one.get("args")) == (other.get("call"), other.get("args"))


def _row(steps: Sequence[Step], index: int, classes: Mapping[int, str]) -> Row:
    row = row_of(steps[index], classes)
    assert row is not None
    return row


def value_of(step: Step, classes: Mapping[int, str]) -> int | None:
    """Return a call's result as its program has it; None if it has none."""
    row = row_of(step, classes)
    return row.value(step["ok"]) if row and row.value and "ok" in step else None


def row_of(step: Step, classes: Mapping[int, str]) -> Row | None:
    """Return a call's row; None if the step is no call, or one to leave out. UsageError if it cannot be repeated."""
    if IN_THE_PEER in step:
        on, do = step[IN_THE_PEER]
        raise UsageError(f"no C program can repeat {name_of(on, classes)}.{do} {IN_THE_PEER}")
    if "call" not in step:
        return None
    on, do = step["call"]
    name = name_of(on, classes)
    if row := CALLS.get((name, do)):
        return row
    if name in SKIPPED or (name, do) in SKIPPED_CALLS:
        return None
    raise UsageError(
        f"no C program can repeat {name}.{do}", hint="harness/reproducer/calls.py lists those that one can"
    )


def name_of(on: str | ObjectRef, classes: Mapping[int, str]) -> str:
    """Return the service, or the object's class."""
    return on if isinstance(on, str) else classes.get(on.number, "an object of an earlier case")


def _classes(steps: Sequence[Step]) -> dict[int, str]:
    """Return the class of each object that the calls with a row make."""
    classes: dict[int, str] = {}
    for step in itertools.chain.from_iterable([each, *each.get(expand.CALLS, [])] for each in steps):
        if "call" in step and isinstance(made := step.get("ok"), ObjectRef):
            on, do = step["call"]
            row = CALLS.get((name_of(on, classes), do))
            classes[made.number] = row.makes if row else f"{name_of(on, classes)}.{do}"
    return classes
