# SPDX-License-Identifier: GPL-2.0-only
"""The cases that an entry of the catalogue names, as pytest node ids."""

from collections.abc import Iterable, Sequence

from harness.bugs import Bug
from harness.cases.collect import Collected
from harness.cases.contract import runs_on
from harness.config import MachineConfig, load_machine
from harness.config.loader import nearest
from harness.errors import UsageError


def require_cases(entry: Bug, collected: Iterable[Collected]) -> None:
    """Raise UsageError if the entry names a case that does not exist."""
    ids = [case.id for case in collected]
    for name in entry.expects.unknown_cases(ids):
        raise UsageError(f"{entry.path}: expects.cases: {name!r} is no case{nearest(name, ids)}")


def nodes_of(entries: Iterable[Bug], collected: Sequence[Collected]) -> list[str]:
    """Return the node ids of the cases of several entries, each on its own machine. Raises what ``node_ids`` raises."""
    return sorted({node for entry in entries for node in node_ids(entry, collected, load_machine(entry.machine))})


def node_ids(entry: Bug, collected: Iterable[Collected], machine: MachineConfig) -> list[str]:
    """Return the node ids of the entry's cases on ``machine``, for ``vfio-harness run``.

    Raises UsageError if there is none.
    """
    cases = list(collected)
    require_cases(entry, cases)
    chosen = [case.node for case in cases if entry.expects.concerns(case.id) and runs_on(case, machine)]
    if not chosen:
        raise UsageError(f"{entry.path}: none of its cases is for the machine {machine.name}")
    return chosen
