# SPDX-License-Identifier: GPL-2.0-only
"""Decides the verdict of a case from what it raised and which splats were seen. No other module decides this."""

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
    KernelComplained,
    KernelErrno,
)
from harness.verdict import WORST_FIRST, Verdict


class Skipped(Exception):
    """Marks a case that was skipped; the message is the reason."""


BLAME: tuple[tuple[type[BaseException], Verdict], ...] = (
    (Skipped, Verdict.SKIP),
    (CapabilityMissing, Verdict.SKIP),
    (GuestHung, Verdict.HANG),
    (GuestOopsed, Verdict.SPLAT),
    (KernelComplained, Verdict.SPLAT),
    (GuestLost, Verdict.CRASH),
    (ContractBroken, Verdict.FAIL),
    (ImporterRefused, Verdict.FAIL),
    (HarnessError, Verdict.ERROR),
)


@dataclass(frozen=True)
class Judgement:
    """A verdict and its reasons, the worst first."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """The reasons in one line, as the run record has them."""
        return "; also ".join(self.reasons)


def judge(raised: Sequence[BaseException], splats: Sequence[str]) -> Judgement:
    """Judge a case.

    ``raised``: what set-up, call and teardown raised, in that order. ``splats``: the titles of the splats seen.
    The worst reason gives the verdict; the others follow it, so that nothing is hidden.
    """
    earned = [Judgement(Verdict.SPLAT, (title,)) for title in splats] + [blame(exc) for exc in raised]
    if not earned:
        return Judgement(Verdict.PASS)
    earned.sort(key=lambda judgement: WORST_FIRST.index(judgement.verdict))
    reasons = dict.fromkeys(reason for judgement in earned for reason in judgement.reasons)
    return Judgement(earned[0].verdict, tuple(reasons))


def blame(exc: BaseException) -> Judgement:
    """Judge one exception. An unknown one is ERROR: the kernel is never blamed for a defect of the harness."""
    text = str(exc) or type(exc).__name__
    if isinstance(exc, KernelErrno):
        return Judgement(Verdict.FAIL, (f"the kernel refused: {exc.call} gave {exc.name}",))
    for kind, verdict in BLAME:
        if isinstance(exc, kind):
            return Judgement(verdict, (text,))
    return Judgement(Verdict.ERROR, (f"{type(exc).__name__}: {text}",))
