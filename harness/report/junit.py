# SPDX-License-Identifier: GPL-2.0-only
"""``junit.xml`` for CI systems, with one test suite per area.

FIXED counts as passed, because a kernel that is better than its known-issues entry must not fail a CI job. The case's
output and the verdict in ``report.json`` show that the entry is out of date.
"""

import io
from collections.abc import Iterable, Iterator
from itertools import chain

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from harness.escape import printable
from harness.report.parts import MISS, NOT_JUDGED, Part
from harness.report.text import by_area
from harness.verdict import KERNEL_AT_FAULT, CaseRecord, RunRecord, Verdict


def render(record: RunRecord) -> str:
    """Render the whole document."""
    return _document(_suites(record))


def render_parts(parts: Iterable[Part]) -> str:
    """Render several runs as one document. A case that no run has judged is an error of type MISS."""
    return _document(chain.from_iterable(map(_suites_of_part, parts)))


def _document(suites: Iterable[TestSuite]) -> str:
    document = JUnitXml(name="vfio-harness")
    for suite in suites:
        document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call]
    buffer = io.BytesIO()
    document.write(buffer)
    return buffer.getvalue().decode()


def _suites_of_part(part: Part) -> Iterator[TestSuite]:
    if part.record:
        yield from _suites(part.record, f"{part.name}: ")
    if part.missing:
        suite = TestSuite(printable(f"{part.name}: {NOT_JUDGED}"))
        suite.add_testcases([_missing(name, why) for name, why in part.missing.items()])
        yield suite


def _suites(record: RunRecord, prefix: str = "") -> Iterator[TestSuite]:
    for area, cases in sorted(by_area(record.cases).items()):
        suite = TestSuite(printable(f"{prefix}{area}"))
        suite.timestamp = record.started
        suite.add_property("kernel", printable(f"{record.kernel.release} ({record.kernel.origin})"))
        suite.add_property("machine", printable(record.machine))
        suite.add_property("host", printable(f"QEMU {record.host.qemu}, {record.host.accel}"))
        suite.add_testcases([_case(case) for case in cases])
        yield suite


def _missing(name: str, why: str) -> TestCase:
    entry = TestCase(printable(name), classname=NOT_JUDGED, time=0)
    entry.result = [Error(f"{MISS}: {printable(why)}", MISS)]
    return entry


def _case(case: CaseRecord) -> TestCase:
    entry = TestCase(printable(case.id), classname=printable(case.area), time=round(case.duration_s, 3))
    reason = printable(case.reason)
    message = f"{case.verdict}: {reason}" if reason else str(case.verdict)
    outcome: Failure | Error | Skipped | None = None
    if case.verdict in KERNEL_AT_FAULT:
        outcome = Failure(message, str(case.verdict))
    elif case.verdict is Verdict.ERROR:
        outcome = Error(message, str(case.verdict))
    elif case.verdict in (Verdict.SKIP, Verdict.KNOWN):
        outcome = Skipped(message)
    seen = "\n".join(f"[{item.t:9.3f}] {item.source}: {printable(item.text)}" for item in case.evidence)
    if outcome is not None:
        entry.result = [outcome]
        if seen and not isinstance(outcome, Skipped):
            outcome.text = seen
    elif case.verdict is Verdict.FIXED:
        entry.system_out = f"{message}\n{seen}"
    return entry
