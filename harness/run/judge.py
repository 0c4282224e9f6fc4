# SPDX-License-Identifier: GPL-2.0-only
"""From what happened during a case to its verdict: the one place that decides who is to blame."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.cases.must import ContractBroken
from harness.errors import (
    CapabilityMissing,
    GuestHung,
    GuestLost,
    GuestOopsed,
    HarnessError,
    ImporterRefused,
    KernelErrno,
)
from harness.verdict import Verdict

# From worst to best: the first of these that a case earned is its verdict. A kernel's complaint outranks
# the sentence it broke, for it names the cause; a lost guest outranks both, for nothing came after it.
# Our own failure comes last of the bad ones, or a kernel that broke the contract first would hide behind it.
SEVERITY = (Verdict.CRASH, Verdict.HANG, Verdict.SPLAT, Verdict.FAIL, Verdict.ERROR, Verdict.SKIP, Verdict.PASS)


ALSO = "; also "
"""Stands between the reasons of one judgement."""


class Skipped(Exception):
    """Stands for a case that was skipped; the message is the reason."""


BLAME: tuple[tuple[type[BaseException], Verdict], ...] = (
    (Skipped, Verdict.SKIP),
    (CapabilityMissing, Verdict.SKIP),
    (GuestHung, Verdict.HANG),
    (GuestOopsed, Verdict.SPLAT),
    (GuestLost, Verdict.CRASH),
    (ContractBroken, Verdict.FAIL),
    (ImporterRefused, Verdict.FAIL),
    (HarnessError, Verdict.ERROR),
)


@dataclass(frozen=True)
class Judgement:
    """A verdict and, unless it is PASS, the one sentence that explains it."""

    verdict: Verdict
    reason: str = ""


def judge(raised: Sequence[BaseException], splats: Sequence[str]) -> Judgement:
    """Judge a case by what its set-up, call and teardown raised, in that order, and the titles of splats seen.

    Of several reasons the worst gives the verdict; the others follow it in the reason, so that nothing is hidden.
    """
    earned = [Judgement(Verdict.SPLAT, title) for title in splats] + [blame(exc) for exc in raised]
    if not earned:
        return Judgement(Verdict.PASS)
    earned.sort(key=lambda judgement: SEVERITY.index(judgement.verdict))
    reasons = list(dict.fromkeys(judgement.reason for judgement in earned))
    return Judgement(earned[0].verdict, ALSO.join(reasons))


def blame(exc: BaseException) -> Judgement:
    """Who is to blame for one exception. An unknown one is ours: the kernel is never blamed for our failure."""
    text = str(exc) or type(exc).__name__
    if isinstance(exc, KernelErrno):
        return Judgement(Verdict.FAIL, f"the kernel refused: {exc.call} gave {exc.name}")
    for kind, verdict in BLAME:
        if isinstance(exc, kind):
            return Judgement(verdict, text)
    return Judgement(Verdict.ERROR, f"{type(exc).__name__}: {text}")
