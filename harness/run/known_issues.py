# SPDX-License-Identifier: GPL-2.0-only
"""Known issues (vm-configs/known-issues.yaml): bugs that are live in kernels people run, each shown by a case.

A case that fails as an entry says becomes KNOWN; one that no longer fails becomes FIXED. A case that fails for any
other reason stays what it was: an entry excuses one bug, not a case.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from harness import paths
from harness.config import Model, Releases, includes, load, matches
from harness.run.judge import ALSO, Judgement
from harness.verdict import KERNEL_AT_FAULT, Verdict

PATH = paths.VM_CONFIGS / "known-issues.yaml"


def _kernels_fault(verdict: Verdict) -> Verdict:
    if verdict not in KERNEL_AT_FAULT:
        raise ValueError(f"{verdict} is no verdict against a kernel; those are {', '.join(sorted(KERNEL_AT_FAULT))}")
    return verdict


class Symptom(Model):
    """How the bug shows: one of ``verdicts``, with reasons in each of which the pattern ``reason`` is found."""

    verdicts: Annotated[list[Annotated[Verdict, AfterValidator(_kernels_fault)]], Field(min_length=1)]
    reason: re.Pattern[str]

    def explains(self, judgement: Judgement) -> bool:
        """Whether this is all that went wrong."""
        reasons = judgement.reason.split(ALSO)
        return judgement.verdict in self.verdicts and all(map(self.reason.search, reasons))


class KnownIssue(Model):
    """One bug. ``cases``: ids of the cases that it fails, ``*`` being any text. ``kernels``: releases, as the PyPA's
    version specifiers. ``machines``: only on these; none named is all. ``link``: a message's subject, or file:line."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    title: str
    cases: Annotated[list[str], Field(min_length=1)]
    kernels: Releases
    machines: tuple[str, ...] = ()
    symptom: Symptom
    evidence: str
    link: str

    def concerns(self, case_id: str) -> bool:
        """Whether the case is one that this bug fails."""
        return matches(self.cases, case_id)

    def is_in(self, release: str, machine: str) -> bool:
        """Whether a kernel of that release has the bug, as seen on that machine."""
        return (not self.machines or machine in self.machines) and includes(self.kernels, release)


class Catalogue(Model):
    """The file."""

    issues: list[KnownIssue]


def catalogue() -> list[KnownIssue]:
    """Every entry. Raises UsageError naming file, line and key."""
    return load(PATH, Catalogue).issues


def as_json(issues: list[KnownIssue]) -> str:
    """The entries as the file has them."""
    return Catalogue(issues=issues).model_dump_json(indent=2)


def as_text(issues: list[KnownIssue]) -> str:
    """The entries as a list to read."""
    return "\n\n".join(
        f"{issue.id} ({issue.kernels})\n  {issue.title}\n"
        f"  shown by {', '.join(issue.cases)}\n  {' '.join(issue.evidence.split())}\n  {issue.link}"
        for issue in issues
    )


@dataclass(frozen=True)
class Ruling:
    """A judgement in the light of what is known; ``issue`` is the entry's id that changed it."""

    judgement: Judgement
    issue: str | None = None


class KnownIssues:
    """The entries that apply to one kernel on one machine."""

    def __init__(self, issues: Iterable[KnownIssue], release: str, machine: str) -> None:
        self._issues = [issue for issue in issues if issue.is_in(release, machine)]

    def rule(self, case_id: str, judgement: Judgement) -> Ruling:
        """KNOWN for a failure that an entry explains, FIXED for a pass that an entry denies; the reason is kept."""
        for issue in (issue for issue in self._issues if issue.concerns(case_id)):
            if judgement.verdict is Verdict.PASS:
                return Ruling(Judgement(Verdict.FIXED, f"{issue.title}: no longer seen"), issue.id)
            if issue.symptom.explains(judgement):
                return Ruling(Judgement(Verdict.KNOWN, judgement.reason), issue.id)
        return Ruling(judgement)
