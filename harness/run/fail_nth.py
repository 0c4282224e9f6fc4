# SPDX-License-Identifier: GPL-2.0-only
"""``--fail-nth``: run a case with each memory allocation of its calls failing in turn (vm-configs/fail-nth.yaml).

A case runs in passes, on one session. In a pass the agent repeats each listed call with its first allocation failing,
then its second, and so on, while the call is refused. Where a call succeeds in spite of a failure, the case goes on
with that result and judges it. The next pass begins at that call with the next allocation. The last pass fails none.
"""

from collections import Counter

from harness import paths
from harness.cases.must import must
from harness.config import Model, load
from harness.errors import HarnessError, UsageError
from harness.kernel import Kernel
from harness.session import Session
from harness.session.fail_nth import FailurePass, begin_failures, end_failures
from harness.session.leaks import forget_leaks, leaks_since, summarize

PATH = paths.VM_CONFIGS / "fail-nth.yaml"
MOST_PASSES = 200
FEATURES = ("failslab", "kmemleak")


class Calls(Model):
    """vm-configs/fail-nth.yaml."""

    calls: dict[str, list[str]]
    """Each call, with the errnos that it may give for want of memory."""


def require(kernel: Kernel) -> None:
    """Raise UsageError for a kernel whose allocations cannot fail, or whose leaks no one would see."""
    if missing := [feature for feature in FEATURES if not kernel.features[feature]]:
        raise UsageError(f"--fail-nth: this kernel lacks {', '.join(missing)}", hint="choose --flavour debug")


class FailNth:
    """The failures of one case, over all its passes."""

    def __init__(self) -> None:
        self._allowed = load(PATH, Calls).calls
        self._next: dict[str, int] = {}
        self._refused: Counter[str] = Counter()
        self._survived: Counter[str] = Counter()
        self._passes = 0
        self._born = 0

    def begin(self, session: Session) -> None:
        """Begin a pass on a session in which nothing is open."""
        if not self._passes:
            self._born = forget_leaks(session)
        self._passes += 1
        begin_failures(session, self._allowed, self._next)

    def end(self, session: Session) -> FailurePass:
        """End the pass."""
        done = end_failures(session)
        self._next = {**self._next, **done.next}
        self._refused.update(done.refused)
        self._survived.update(failure.partition(",")[0] for failure in done.survived)
        return done

    def judge(self, session: Session, done: FailurePass) -> None:
        """State what must hold after a pass, and after the last one.

        Raises ContractBroken, and HarnessError if the case needs more than MOST_PASSES.
        """
        must(not done.left, "a call that is refused for want of memory leaves no dma-buf and no reference", done.left)
        if not self.finished:
            if self._passes == MOST_PASSES:
                raise HarnessError(f"--fail-nth: failures are left to try after {MOST_PASSES} passes: {self._next}")
            return
        leaked = leaks_since(session, self._born)
        must(not leaked, "a call of which an allocation fails leaks no memory", summarize(leaked))

    @property
    def finished(self) -> bool:
        """Whether no failure is left to try."""
        return not any(self._next.values())

    def __str__(self) -> str:
        """Return one line for the evidence: how many failures refused each site, and how many did not."""
        sites = ", ".join(
            f"{site} {self._refused[site]} and {self._survived[site]}"
            for site in sorted(self._refused | self._survived)
        )
        return f"fail-nth: {self._passes} passes; failures that refused a call, and that did not: {sites or 'none'}"
