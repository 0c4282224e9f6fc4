# SPDX-License-Identifier: GPL-2.0-only
"""Whether a case shows a bug, and whether it proves that a kernel lacks it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from harness.bugs.catalogue import Bug
from harness.verdict import BAD, GOOD, CaseRecord, Verdict


def shows(entry: Bug, case: CaseRecord) -> bool:
    """Return whether the case shows the bug as the entry says. A live bug may be a known issue of the same id."""
    known = case.verdict is Verdict.KNOWN and case.known_issue == entry.id
    as_expected = known or case.verdict is entry.expects.verdict
    return as_expected and entry.expects.concerns(case.id) and bool(entry.expects.reason.search(case.reason))


class FixState(StrEnum):
    """Whether a kernel has a fix: what needs the most work first."""

    MISSING = "missing"
    """A case shows the bug."""
    NOT_JUDGED = "not judged"
    NOT_APPLICABLE = "not applicable"
    """The source lacks the code that the fix repairs, and no case shows the bug."""
    PRESENT = "present"
    """The cases that show the bug ran and passed, and at least one of them is known to catch it."""


class Proof(StrEnum):
    """How a case is known to catch a bug."""

    HERE = "here"
    """The bug was put back into this kernel, and the case showed it."""
    CATALOGUE = "catalogue"
    """The catalogue says so; ``vfio-harness mutants`` proves it on another kernel."""


@dataclass(frozen=True)
class Finding:
    """What the cases of one bug say of a kernel."""

    state: FixState
    reason: str
    """Why, in one sentence."""
    cases: tuple[str, ...] = ()
    """The ids of the cases that decided."""
    proof: Proof | None = None
    """Of PRESENT: how its cases are known to catch the bug."""
    unsure: str = ""
    """Of PRESENT: why some of the cases say nothing, so that the others must be proved HERE. Empty: all passed."""


def judge_absence(entry: Bug, expected: Collection[str], cases: Sequence[CaseRecord], error: str = "") -> Finding:
    """Judge a kernel by the entry's cases. PRESENT is a candidate until ``prove`` has confirmed it.

    Args:
        entry: The bug.
        expected: The ids of the entry's cases on its machine.
        cases: The cases that ran.
        error: What ended the run early; empty if nothing did.
    """
    own = [case for case in cases if case.id in expected]
    if shown := [case for case in own if shows(entry, case)]:
        return Finding(FixState.MISSING, f"{shown[0].id} is {shown[0].verdict}: {shown[0].reason}", _ids(shown))
    if other := [case for case in own if case.verdict in BAD]:
        reason = f"{other[0].id} is {other[0].verdict} for another reason: {other[0].reason}"
        return Finding(FixState.NOT_JUDGED, reason, _ids(other))
    if missing := sorted(set(expected) - {case.id for case in own}):
        return Finding(FixState.NOT_JUDGED, f"{missing[0]} did not run{f': {error}' if error else ''}", tuple(missing))
    if not own:
        return Finding(FixState.NOT_JUDGED, error or "none of its cases is for its machine")
    good = [case for case in own if case.verdict in GOOD]
    silent = [case for case in own if case.verdict not in GOOD]  # skipped, or kept from its point by another bug
    unsure = f"{silent[0].id} is {silent[0].verdict}: {silent[0].reason}" if silent else ""
    if not good:
        return Finding(FixState.NOT_JUDGED, unsure, _ids(silent))
    passed = f"{len(good)} of {len(own)} cases passed"
    return Finding(FixState.PRESENT, passed, _ids(good), Proof.CATALOGUE, unsure)


def trust(found: Finding, why: str) -> Finding:
    """Keep a candidate for PRESENT on the catalogue's word, which ``why`` names."""
    return replace(found, reason=f"{found.reason}; {why}") if found.state is FixState.PRESENT else found


def prove(found: Finding, entry: Bug, with_bug: Sequence[CaseRecord] | None, why_not: str = "") -> Finding:
    """Confirm a candidate for PRESENT by the run with the bug put back into the same kernel.

    Args:
        found: What ``judge_absence`` has said.
        entry: The bug.
        with_bug: The cases on the kernel with the bug. None: it could not be put back, so the cases may be blind to it
            here, or the kernel may have it already.
        why_not: Why it could not be.
    """
    if found.state is not FixState.PRESENT:
        return found
    if with_bug is None:
        reason = f"{found.reason}, but the bug cannot be put back to see them fail: {why_not}"
        return Finding(FixState.NOT_JUDGED, reason, found.cases)
    caught = [case for case in with_bug if case.id in found.cases and shows(entry, case)]
    if not caught:
        reason = "its cases passed, but none shows the bug when it is put back into this kernel"
        return Finding(FixState.NOT_JUDGED, reason, found.cases)
    reason = f"{found.reason}; with the bug put back, {caught[0].id} is {caught[0].verdict}"
    return Finding(found.state, reason, _ids(caught), Proof.HERE)


def hidden(found: Finding, others: Mapping[str, Finding]) -> Finding:
    """Say which missing fix keeps a bug from being judged: its bug shows in the case that should show this one.

    ``others``: the findings of the same kernel, by bug."""
    if found.state is FixState.NOT_JUDGED and found.cases:
        for bug, other in others.items():
            if other.state is FixState.MISSING and found.cases[0] in other.cases:
                return replace(found, reason=f"{bug} hides it, in {found.cases[0]}: add its fix, and audit again")
    return found


def settle(found: Finding) -> Finding:
    """Return the final finding: a candidate for PRESENT of which a case says nothing counts only if proved HERE."""
    if found.state is FixState.PRESENT and found.proof is not Proof.HERE and found.unsure:
        return Finding(FixState.NOT_JUDGED, found.unsure, found.cases)
    return found


def combine(findings: Sequence[Finding]) -> Finding:
    """Return the finding of a fix of several bugs: missing if one is shown, present only if each is fixed."""
    order = list(FixState)
    worst = min(findings, key=lambda each: order.index(each.state))
    if worst.state is not FixState.PRESENT:
        return worst
    return next((each for each in findings if each.proof is not Proof.HERE), worst)


def _ids(cases: Sequence[CaseRecord]) -> tuple[str, ...]:
    return tuple(case.id for case in cases)
