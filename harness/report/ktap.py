# SPDX-License-Identifier: GPL-2.0-only
"""``report.ktap``: KTAP version 1 (Documentation/dev-tools/ktap.rst), with one subtest per area."""

from collections.abc import Iterable, Iterator, Sequence

from harness.escape import printable
from harness.report.parts import MISS, NOT_JUDGED, Part
from harness.report.text import by_area, key_evidence, one_line
from harness.verdict import CaseRecord, RunRecord, Verdict

VERSION = "KTAP version 1"

_RESULTS = {
    Verdict.PASS: ("ok", ""),
    Verdict.FIXED: ("ok", ""),
    Verdict.KNOWN: ("ok", "XFAIL"),
    Verdict.SKIP: ("ok", "SKIP"),
    Verdict.FAIL: ("not ok", ""),
    Verdict.SPLAT: ("not ok", ""),
    Verdict.CRASH: ("not ok", ""),
    Verdict.HANG: ("not ok", "TIMEOUT"),
    Verdict.ERROR: ("not ok", "ERROR"),
}
"""Result and directive of each verdict. XFAIL is KTAP's directive for an expected failure."""


def render(record: RunRecord) -> str:
    """Render the whole document."""
    _, lines = _group(_areas(record))
    return "\n".join(lines) + "\n"


def render_parts(parts: Iterable[Part]) -> str:
    """Render several runs as one document, a subtest each. A case that no run has judged is an ERROR."""
    _, lines = _group((part.name, _group(_areas_of_part(part))) for part in parts)
    return "\n".join(lines) + "\n"


_Test = tuple[bool, list[str]]
"""Whether a test with subtests is ok, and its lines."""


def _group(subtests: Iterable[tuple[str, _Test]]) -> _Test:
    """Join named tests to one that is ok if each of them is."""
    found = list(subtests)
    lines = [VERSION, f"1..{len(found)}"]
    for number, (name, (ok, inner)) in enumerate(found, 1):
        lines += [f"  {line}" for line in inner]
        lines.append(f"{'ok' if ok else 'not ok'} {number} {_text(name)}")
    return all(ok for _, (ok, _) in found), lines


def _areas(record: RunRecord) -> Iterator[tuple[str, _Test]]:
    for area, cases in sorted(by_area(record.cases).items()):
        yield area, (all(_RESULTS[case.verdict][0] == "ok" for case in cases), list(_subtest(cases)))


def _areas_of_part(part: Part) -> Iterator[tuple[str, _Test]]:
    if part.record:
        yield from _areas(part.record)
    if part.missing:
        lines = [
            f"not ok {number} {_text(name)} # ERROR {MISS}: {_text(why)}"
            for number, (name, why) in enumerate(part.missing.items(), 1)
        ]
        yield NOT_JUDGED, (False, [VERSION, f"1..{len(lines)}", *lines])


def _subtest(cases: Sequence[CaseRecord]) -> Iterator[str]:
    yield VERSION
    yield f"1..{len(cases)}"
    for number, case in enumerate(cases, 1):
        result, directive = _RESULTS[case.verdict]
        if result != "ok":
            for item in key_evidence(case):
                yield from (f"# {item.source}: {line}" for line in printable(item.text).splitlines())
        data = " ".join(filter(None, (directive, _data(case))))
        yield f"{result} {number} {_text(case.id)}" + (f" # {data}" if data else "")


def _data(case: CaseRecord) -> str:
    """Return the reason, with the verdict in front unless result and directive already imply it."""
    reason = _text(case.reason)
    if case.verdict in (Verdict.PASS, Verdict.SKIP, Verdict.ERROR):
        return reason
    return f"{case.verdict}: {reason}" if reason else str(case.verdict)


def _text(text: str) -> str:
    """Return a line that begins no directive."""
    return one_line(text).replace("#", "")
