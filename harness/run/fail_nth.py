# SPDX-License-Identifier: GPL-2.0-only
"""``--fail-nth``: run a case with each memory allocation of its calls failing in turn (vm-configs/fail-nth.yaml).

A case runs in passes, on one session. In a pass the agent repeats each listed call with its first allocation failing,
then its second, and so on, while the call is refused. Where a call succeeds in spite of a failure, the case goes on
with that result and judges it. The next pass begins at that call with the next allocation. The last pass fails none.
"""

from collections import Counter
from collections.abc import Collection

from harness import paths
from harness.cases.collect import collect
from harness.cases.must import must
from harness.config import Model, load
from harness.config.loader import nearest
from harness.errors import HarnessError, UsageError
from harness.kernel import Kernel, lacking
from harness.session import Session
from harness.session.fail_nth import FailurePass, begin_failures, end_failures
from harness.session.leaks import forget_leaks, leaks_since, summarize

PATH = paths.VM_CONFIGS / "fail-nth.yaml"
FRAGMENT = paths.GUEST_IMAGES / "kernel" / "fault-injection.config"
MOST_PASSES = 200


class FailNthFile(Model):
    """vm-configs/fail-nth.yaml."""

    calls: dict[str, list[str]]
    """Each call, with the errnos that it may give for want of memory."""
    cases: list[str]
    """The ids of cases that reach most error paths in little time."""


def listed_nodes() -> list[str]:
    """Return the node ids of the cases that vm-configs/fail-nth.yaml lists. Raises UsageError for one that is none."""
    nodes = {case.id: case.node for case in collect()}
    listed = load(PATH, FailNthFile).cases
    if unknown := [name for name in listed if name not in nodes]:
        raise UsageError(f"{PATH}: cases: {unknown[0]!r} is no case{nearest(unknown[0], nodes)}")
    return [nodes[name] for name in listed]


def require(kernel: Kernel) -> None:
    """Raise UsageError for a kernel whose allocations cannot fail."""
    if not kernel.features["failslab"]:
        raise UsageError(
            f"--fail-nth: this kernel lacks failslab: {lacking(kernel, 'failslab')}",
            hint="choose --flavour coverage, or debug to find leaks too; a build directory needs the options of "
            f"{FRAGMENT.relative_to(paths.TOP)}",
        )


class FailNth:
    """The failures of one case, over all its passes.

    ``kmemleak``: whether the kernel can report the memory that they leak.
    """

    def __init__(self, *, kmemleak: bool) -> None:
        self._kmemleak = kmemleak
        self._allowed = load(PATH, FailNthFile).calls
        self._next: dict[str, int] = {}
        self._reached: Collection[str] = ()
        self._refused: Counter[str] = Counter()
        self._survived: Counter[str] = Counter()
        self._passes = 0
        self._born = 0

    def begin(self, session: Session) -> None:
        """Begin a pass on a session in which nothing is open."""
        if self._kmemleak and not self._passes:
            self._born = forget_leaks(session)
        self._passes += 1
        begin_failures(session, self._allowed, self._next)

    def end(self, session: Session) -> FailurePass:
        """End the pass."""
        done = end_failures(session)
        self._next = {**self._next, **done.next}
        self._reached = done.next.keys()
        self._refused.update(done.refused)
        self._survived.update(failure.partition(",")[0] for failure in done.survived)
        return done

    def judge(self, session: Session, done: FailurePass) -> None:
        """State what must hold after a pass, and after the last one.

        Raises ContractBroken, and HarnessError if the case needs more than MOST_PASSES.
        """
        must(not done.left, "a call that is refused for want of memory leaves no dma-buf, pin or reference", done.left)
        if not self.finished:
            if self._passes == MOST_PASSES:
                raise HarnessError(f"--fail-nth: failures are left to try after {MOST_PASSES} passes: {self._next}")
            return
        leaked = leaks_since(session, self._born) if self._kmemleak else []
        must(not leaked, "a call of which an allocation fails leaks no memory", summarize(leaked))

    @property
    def finished(self) -> bool:
        """Whether no failure is left to try in the calls of the last pass.

        A pass may make fewer calls than the one before: an importer stays ready."""
        return not any(self._next[site] for site in self._reached)

    def __str__(self) -> str:
        """Return one line for the evidence: how many failures refused each site, and how many did not."""
        sites = ", ".join(
            f"{site} {self._refused[site]} and {self._survived[site]}"
            for site in sorted(self._refused | self._survived)
        )
        return f"fail-nth: {self._passes} passes; failures that refused a call, and that did not: {sites or 'none'}"
