# SPDX-License-Identifier: GPL-2.0-only
"""``report.ktap``: KTAP version 1 (Documentation/dev-tools/ktap.rst), with one subtest per area."""

from collections.abc import Iterator, Sequence

from harness.escape import printable
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
    areas = sorted(by_area(record.cases).items())
    lines = [VERSION, f"1..{len(areas)}"]
    for number, (area, cases) in enumerate(areas, 1):
        lines += [f"  {line}" for line in _subtest(cases)]
        result = "ok" if all(_RESULTS[case.verdict][0] == "ok" for case in cases) else "not ok"
        lines.append(f"{result} {number} {_name(area)}")
    return "\n".join(lines) + "\n"


def _subtest(cases: Sequence[CaseRecord]) -> Iterator[str]:
    yield VERSION
    yield f"1..{len(cases)}"
    for number, case in enumerate(cases, 1):
        result, directive = _RESULTS[case.verdict]
        if result != "ok":
            for item in key_evidence(case):
                yield from (f"# {item.source}: {line}" for line in printable(item.text).splitlines())
        data = " ".join(filter(None, (directive, _data(case))))
        yield f"{result} {number} {_name(case.id)}" + (f" # {data}" if data else "")


def _data(case: CaseRecord) -> str:
    """Return the reason, with the verdict in front unless result and directive already imply it."""
    reason = one_line(case.reason).replace("#", "")
    if case.verdict in (Verdict.PASS, Verdict.SKIP, Verdict.ERROR):
        return reason
    return f"{case.verdict}: {reason}" if reason else str(case.verdict)


def _name(text: str) -> str:
    return one_line(text).replace("#", "")
