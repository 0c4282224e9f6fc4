# SPDX-License-Identifier: GPL-2.0-only
"""Which cases can notice an automatic mutant, and in which order it meets them."""

from collections import Counter
from collections.abc import Collection, Mapping

from harness.bugs.auto import AutoMutant
from harness.config import load_machine
from harness.gcov.measure import KernelCoverage
from harness.run.options import Options


def reaching(mutant: AutoMutant, reached: KernelCoverage, options: Options) -> set[str]:
    """Return the ids of the cases that reach a mutant's line on the machine of the options.

    With ``options.fail_nth``: those that reach it only by failing allocations.
    """
    machine, edit = load_machine(options.machine).name, mutant.edit
    found = reached.reaching(mutant.file, edit.function, edit.line, fail_nth=options.fail_nth)
    return {case.id for case in found if case.machine == machine}


def cheapest_first(cases: Collection[str], seconds: Mapping[str, float]) -> list[str]:
    """Sort cases by what they take. ``seconds``: what each case takes."""
    return sorted(cases, key=lambda case: (seconds[case], case))


def spread(cases: Collection[str], seconds: Mapping[str, float], budget: float) -> list[str]:
    """Choose cases that take ``budget`` seconds together, at least one: the cheapest of each test function first.

    ``seconds``: what each case takes."""
    ranked: list[tuple[int, float, str]] = []
    seen: Counter[str] = Counter()
    for case in cheapest_first(cases, seconds):
        function = case.partition("[")[0]
        ranked.append((seen[function], seconds[case], case))
        seen[function] += 1
    chosen: list[str] = []
    for _, takes, case in sorted(ranked):
        budget -= takes
        if chosen and budget < 0:
            break
        chosen.append(case)
    return chosen
