# SPDX-License-Identifier: GPL-2.0-only
"""The order of the cases on a changed kernel: those that reach the changed functions come first."""

from collections import Counter
from collections.abc import Mapping, Sequence

from harness.bugs import Bug, load_bugs
from harness.bugs.related import about, in_files
from harness.cases.touched import ALL, concerned
from harness.config import matches
from harness.run.changed import Changed
from harness.run.reach_map import ReachMap, series_of

UNKNOWN_S = 1.0
"""What a case takes of which no duration is known, in seconds."""


def order(
    ids: Sequence[str], changed: Changed, known: ReachMap | None, machine: str, release: str
) -> tuple[list[int], str]:
    """Return the positions of the cases in their new order, and a line that says why; an empty one if nothing moves.

    With a coverage map, the cases that reach the changed functions come first, of these the ones that show a bug of the
    catalogue there, then the cheapest of each test. Without a map, the cases that show a bug there, or in these files.
    """
    bugs = load_bugs()
    showing = _cases(ids, about({each.rpartition(":")[2] for each in changed.functions} - {""}, bugs))
    reaching = known.reaching(changed.functions, machine) if known else {}
    if reaching:
        first = {case: reaching[case] for case in ids if case in reaching}
        names = changed.names()
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        why = f"they reach {', '.join(names[:3])}{more}, which {changed.what} changes"
    else:
        near = [*showing, *_cases(ids, in_files(changed.files, bugs)), *_concerned(ids, changed)]
        first = dict.fromkeys(near, UNKNOWN_S)
        series = series_of(release)
        unknown = f"no case in the coverage map of {series} reaches it" if known else f"no coverage map of {series}"
        why = f"the catalogue of bugs has them for the files that {changed.what} changes; {unknown}"
    if not first:
        return [*range(len(ids))], ""
    ranked = _ranked(first, {*showing})
    position = {case: at for at, case in enumerate(ids)}
    moved = [position[case] for case in ranked]
    rest = [at for at in range(len(ids)) if ids[at] not in first]
    return [*moved, *rest], f"order    {len(first)} of {len(ids)} cases first: {why}"


def _cases(ids: Sequence[str], bugs: Sequence[Bug]) -> list[str]:
    return [case for case in ids if any(bug.expects.concerns(case) for bug in bugs)]


def _concerned(ids: Sequence[str], changed: Changed) -> list[str]:
    patterns = concerned(changed.files)
    return [] if ALL in patterns else [case for case in ids if matches(patterns, case)]


def _ranked(seconds: Mapping[str, float], showing: set[str]) -> list[str]:
    """Sort cases: those that show a bug, then the cheapest of each test function, then the next of each."""
    seen: Counter[tuple[bool, str]] = Counter()
    ranked: list[tuple[bool, int, float, str]] = []
    for case in sorted(seconds, key=lambda case: (seconds[case], case)):
        key = (case not in showing, case.partition("[")[0])
        ranked.append((key[0], seen[key], seconds[case], case))
        seen[key] += 1
    return [case for *_, case in sorted(ranked)]
