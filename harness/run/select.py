# SPDX-License-Identifier: GPL-2.0-only
"""Chooses the cases of a run: suite, machine, focus; and their order if a bug was put back."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pytest

from harness.bugs import load_bug
from harness.cases import suites
from harness.cases.program import load
from harness.cases.suites import MODEL_SUITE
from harness.config import load_machine
from harness.errors import UsageError
from harness.run.case import identify
from harness.run.options import Options
from harness.session import IMPORTERS


@dataclass(frozen=True)
class Candidate:
    """The properties of a collected case that decide whether it runs."""

    id: str
    machines: tuple[str, ...] = ()
    """The only machines that can show it; empty: any."""
    covers: frozenset[str] = frozenset()
    """The contract's rows that it covers, and their sections."""

    @classmethod
    def of(cls, item: pytest.Item) -> "Candidate":
        """Read the markers of a pytest item."""
        mark = item.get_closest_marker("machine")
        rows = covered_rows(item)
        sections = {row.partition(".")[0] for row in rows}
        return cls(identify(item).id, mark.args if mark else (), rows | sections)


def select(candidates: Sequence[Candidate], options: Options) -> list[int]:
    """Return the indices of the cases that run, in their order.

    A case runs if it is in the suite and if the machine can show it. With ``--focus`` it must also cover a row that the
    machine's description names; a case that names its machines always does. With a mutation, the cases that should
    show the bug come first.

    Raises UsageError if nothing is left, and for an unknown suite or, with ``--focus``, an unreadable machine.
    """
    found = suites.suites()
    if options.suite not in found:
        raise suites.unknown(options.suite, found)
    suite_of = [suites.suite_of(case.id, found) for case in candidates]
    kept = [index for index, suite in enumerate(suite_of) if suite == options.suite]
    if not kept:
        others = ", ".join(sorted(set(suite_of)))
        raise UsageError(f"these cases are in the suite {others}, not in {options.suite}", hint="choose with --suite")
    named = ", ".join(sorted(set(chain(*(candidates[index].machines for index in kept)))))
    kept = [index for index in kept if _can_show(options.machine, candidates[index])]
    if not kept:
        raise UsageError(f"these cases are for {named}, not for {options.machine}", hint="choose with --machine")
    if options.focus and (focus := load_machine(options.machine).focus):
        kept = [i for i in kept if candidates[i].machines or candidates[i].covers & {*focus}]
        if not kept:
            raise UsageError(
                f"these cases are not in the focus of {options.machine}: {', '.join(focus)}", hint="leave --focus out"
            )
    if options.program:
        if options.suite != MODEL_SUITE:
            raise UsageError("--program is for the suite model", hint="add --suite model")
        load(options.program)  # a mistake in it must not cost a boot
        del kept[1:]  # they all run the same program
    if options.mutation:
        with suppress(UsageError):  # an unknown bug: Setup.prepare reports it
            expects = load_bug(options.mutation).expects
            kept.sort(key=lambda index: not expects.concerns(candidates[index].id))
    return kept


def _can_show(machine: str, case: Candidate) -> bool:
    return not case.machines or Path(machine).stem in case.machines


def covered_rows(item: pytest.Item) -> frozenset[str]:
    """Return the contract's rows that a case covers."""
    return frozenset(row for mark in item.iter_markers("contract") for row in mark.args[1:])


def needed_capabilities(item: pytest.Item) -> Iterator[str]:
    """Yield the capabilities that a case needs of the machine and the kernel: its own, and its importer's."""
    for mark in item.iter_markers("needs"):
        yield from mark.args
    if kind := IMPORTERS.get(identify(item).importer or ""):
        yield from (kind.needs, kind.feature)
    if "attach" in getattr(item, "fixturenames", ()):
        yield from ("dma-api", "test_importer")
