# SPDX-License-Identifier: GPL-2.0-only
"""Known issues (vm-configs/known-issues.yaml): bugs that are live in released kernels, each shown by a case.

A case that fails as its entries say becomes KNOWN. If the case passes, it becomes FIXED. Any other failure keeps its
verdict: an entry excuses one bug, not a case. A number in a reason, such as the bytes leaked, has limits, so that a
second bug in the same sentence is not excused.
"""

import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from harness import paths
from harness.config import Model, Releases, includes, load, matches, version
from harness.kernel.model import Flavour
from harness.run.judge import Judgement
from harness.verdict import KERNEL_AT_FAULT, Verdict

PATH = paths.VM_CONFIGS / "known-issues.yaml"
WIDTH = 100
"""Columns of the list."""


def _kernels_fault(verdict: Verdict) -> Verdict:
    if verdict not in KERNEL_AT_FAULT:
        raise ValueError(f"{verdict} does not blame the kernel; these do: {', '.join(sorted(KERNEL_AT_FAULT))}")
    return verdict


class Symptom(Model):
    """How the bug shows."""

    verdicts: Annotated[list[Annotated[Verdict, AfterValidator(_kernels_fault)]], Field(min_length=1)]
    """The case ends with one of these."""
    reason: re.Pattern[str]
    """Each reason that the bug gives matches this pattern, from its first to its last character."""
    limits: Mapping[str, tuple[int, int]] = Field(default={}, validate_default=True)
    """The least and the most of each number ``(?P<name>[0-9]+)`` that the pattern finds in a reason."""

    @field_validator("limits")
    @classmethod
    def _of_the_pattern(cls, limits: Mapping[str, tuple[int, int]], info: ValidationInfo) -> Mapping[str, object]:
        reason: re.Pattern[str] | None = info.data.get("reason")
        if reason is None:  # not a pattern, which is reported
            return limits
        for name, (least, most) in limits.items():
            if f"(?P<{name}>[0-9]+)" not in reason.pattern:
                raise ValueError(f"{name!r} is not a number of the pattern: it has no (?P<{name}>[0-9]+)")
            if least > most:
                raise ValueError(f"{name!r}: the least, {least}, is more than the most, {most}")
        if missing := ", ".join(reason.groupindex.keys() - limits.keys()):
            raise ValueError(f"the pattern has a number without limits: {missing}")
        return limits

    def explains(self, reason: str) -> bool:
        """Return whether the bug explains a reason."""
        found = self.reason.fullmatch(reason)
        if found is None:
            return False
        numbers = {name: int(text) for name, text in found.groupdict().items() if text is not None}
        return all(least <= numbers[name] <= most for name, (least, most) in self.limits.items() if name in numbers)


def _date_or_release(text: str) -> str:
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        date.fromisoformat(text)
    elif not re.fullmatch(r"\d+\.\d+(\.\d+)?", text):
        raise ValueError(f"{text!r} is neither a date such as '2027-06-01' nor a release such as '7.4'")
    return text


class KnownIssue(Model):
    """One bug."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    title: str
    """The rule that the kernel breaks."""
    cases: Annotated[list[str], Field(min_length=1)]
    """The ids of the cases that fail; ``*`` matches any text."""
    kernels: Releases
    """The releases with the bug, as a PyPA version specifier."""
    machines: tuple[str, ...] = ()
    """The machines that show the bug; empty: all."""
    flavours: tuple[Flavour, ...] = ()
    """The flavours whose checkers show the bug; empty: all."""
    fail_nth: bool = False
    """Whether only a failing allocation shows the bug: a run with ``--fail-nth``."""
    intermittent: bool = False
    """Whether the bug shows in few runs: a case that passes is PASS, not FIXED."""
    symptom: Symptom
    review_by: Annotated[str, AfterValidator(_date_or_release)]
    """A date, or the first release of which somebody checks whether it still has the bug."""
    evidence: str
    """What was observed."""
    link: str
    """A message's subject, or file:line."""

    def concerns(self, case_id: str) -> bool:
        """Return whether the bug fails this case."""
        return matches(self.cases, case_id)

    def is_overdue(self, today: date, release: str | None) -> bool:
        """Return whether ``review_by`` has passed: that day is over, or this release or a later one is tested."""
        if "-" in self.review_by:
            return today > date.fromisoformat(self.review_by)
        return release is not None and version(release) >= version(self.review_by)

    def is_in(self, release: str, machine: str, flavour: Flavour) -> bool:
        """Return whether this release has the bug, and this machine and this flavour show it."""
        shown = (not self.machines or machine in self.machines) and (not self.flavours or flavour in self.flavours)
        return shown and includes(self.kernels, release)


class Catalogue(Model):
    """The file."""

    issues: list[KnownIssue]


def catalogue() -> list[KnownIssue]:
    """Read every entry. Raises UsageError naming file, line and key."""
    return load(PATH, Catalogue).issues


def overdue(today: date, release: str | None, issues: Iterable[KnownIssue] | None = None) -> list[KnownIssue]:
    """Return the entries that are due for a review.

    Args:
        today: The date in UTC.
        release: The newest release that is tested; None: of no kernel.
        issues: The entries; None: ``catalogue()``.
    """
    return [issue for issue in (catalogue() if issues is None else issues) if issue.is_overdue(today, release)]


def as_json(issues: list[KnownIssue]) -> str:
    """Format the entries as JSON, with the keys of the file."""
    return Catalogue(issues=issues).model_dump_json(indent=2)


def _wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), WIDTH, initial_indent="  ", subsequent_indent="  ")


def as_text(issues: list[KnownIssue]) -> str:
    """Format the entries as a list."""
    return "\n\n".join(
        f"{issue.id} ({issue.kernels})\n  {issue.title}\n"
        f"  shown by {', '.join(issue.cases)}\n{_wrapped(issue.evidence)}\n  {issue.link}\n"
        f"  review by {issue.review_by}"
        for issue in issues
    )


@dataclass(frozen=True)
class Ruling:
    """A judgement after the known issues are applied."""

    judgement: Judgement
    issue: str | None = None
    """The id of the entry that changed the verdict."""


class KnownIssues:
    """The entries that apply to one kernel on one machine. ``fail_nth``: to a run with failing allocations."""

    def __init__(
        self,
        issues: Iterable[KnownIssue],
        release: str,
        machine: str,
        *,
        flavour: Flavour = "release",
        fail_nth: bool = False,
    ) -> None:
        found = (issue for issue in issues if issue.is_in(release, machine, flavour))
        self._issues = [issue for issue in found if fail_nth or not issue.fail_nth]

    @property
    def ids(self) -> frozenset[str]:
        """The ids of the entries."""
        return frozenset(issue.id for issue in self._issues)

    def rule(self, case_id: str, judgement: Judgement) -> Ruling:
        """Turn a failure into KNOWN if an entry explains its verdict, and entries explain each of its reasons.

        A pass where an entry predicts a failure becomes FIXED. KNOWN keeps the reasons, the worst of which names the
        entry.
        """
        ruling = Ruling(judgement)
        issues = [issue for issue in self._issues if issue.concerns(case_id)]
        if judgement.verdict is Verdict.PASS:
            fixed = next((issue for issue in issues if not issue.intermittent), None)
            return Ruling(Judgement(Verdict.FIXED, (f"{fixed.title}: no longer seen",)), fixed.id) if fixed else ruling
        found = [
            next((issue for issue in issues if issue.symptom.explains(reason)), None) for reason in judgement.reasons
        ]
        if None not in found and (worst := next(iter(found), None)) and judgement.verdict in worst.symptom.verdicts:
            return Ruling(Judgement(Verdict.KNOWN, judgement.reasons), worst.id)
        return ruling
