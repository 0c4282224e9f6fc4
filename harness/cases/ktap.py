# SPDX-License-Identifier: GPL-2.0-only
"""Read KTAP (Documentation/dev-tools/ktap.rst), as a program of the kernel's selftests prints it."""

import re
from dataclasses import dataclass
from typing import Literal

# "not ok 3 vfio_pci_irq_test.msi # SKIP MSI: not supported". A test's own output may stand before it and after it.
_RESULT = re.compile(
    r"^\s*(?P<not>not )?ok \d+(?: -)? ?(?P<name>[^#]*)(?:# (?P<directive>\w+) ?(?P<why>.*))?$",
)
# "# memcpy_storm: Test terminated by timeout", of kselftest_harness.h.
_TIMEOUT = re.compile(r"^# (?P<name>[^:]+): Test terminated by timeout$")
_PLAN = re.compile(r"^1\.\.(?P<count>\d+)(?:\s*# SKIP\s*(?P<why>.*))?$")

Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Result:
    """The result of one test."""

    name: str
    outcome: Outcome
    why: str = ""
    """Why it was skipped."""


@dataclass(frozen=True)
class Report:
    """What one program reported."""

    planned: int | None
    """How many tests it announced; None if it announced none."""
    results: tuple[Result, ...]
    skipped: str = ""
    """Why it skipped all of them."""
    timed_out: tuple[str, ...] = ()
    """The tests that the program itself ended, because they took too long. It reports them as failed."""

    def named(self, outcome: Outcome) -> list[str]:
        """Return the names of the tests that ended so."""
        return [result.name for result in self.results if result.outcome == outcome]


def read(output: str) -> Report:
    """Read the results of the top level. XFAIL, an expected failure, counts as passed."""
    planned, skipped, results, timed_out = None, "", [], []
    for line in output.splitlines():
        if plan := _PLAN.match(line):
            planned, skipped = int(plan["count"]), plan["why"] or ""
        elif found := _RESULT.match(line):
            results.append(Result(found["name"].strip(), _outcome(found), found["why"] or ""))
        elif found := _TIMEOUT.match(line):
            timed_out.append(found["name"])
    return Report(planned, tuple(results), skipped, tuple(timed_out))


def _outcome(found: re.Match[str]) -> Outcome:
    if found["directive"] == "SKIP":
        return "skipped"
    return "failed" if found["not"] and found["directive"] != "XFAIL" else "passed"
