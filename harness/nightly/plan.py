# SPDX-License-Identifier: GPL-2.0-only
"""The plan of a night (``vm-configs/nightly.yaml``): trees, flavours, machines, suites and QEMUs, and their cells."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from harness import paths
from harness.cases.suites import DEFAULT_SUITE, suites
from harness.config import DEFAULT_ARCH, DEFAULT_MACHINE, Model, load, load_machine
from harness.config.loader import Loc, nearest
from harness.errors import UsageError
from harness.kernel.model import Flavour
from harness.nightly.record import KVM_TEST, Cell

DEFAULT_PLAN = paths.VM_CONFIGS / "nightly.yaml"
DEFAULT_QEMU = "default"
"""Names the QEMU that a run finds itself."""
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def seconds_of(duration: str) -> float:
    """Read a duration such as ``90m``, ``6h`` or ``1h30m``. Raises ValueError that names the form."""
    parts = _DURATION.findall(duration)
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != duration or not total:
        raise ValueError(f"{duration!r} is not a duration such as 90m, 6h or 1h30m")
    return total


def _checked_duration(text: str) -> str:
    seconds_of(text)
    return text


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$", max_length=60)]
"""A name in the id of a cell, which is the name of a directory too."""
Text = Annotated[str, StringConstraints(min_length=1)]
Duration = Annotated[str, AfterValidator(_checked_duration)]


class Tree(Model):
    """A kernel under test."""

    kernel: Text | None = None
    """The value of KERNEL=; None for the pinned kernel."""
    series: Text | None = None
    """The value of SERIES=: patches on this tree."""


class Line(Model):
    """A line of ``include``: every combination of its lists is a cell."""

    owner: Text
    """Who looks after the line's cells."""
    trees: tuple[Name, ...] = Field(min_length=1)
    """Names of ``trees``."""
    flavours: tuple[Flavour, ...] = Field(("release",), min_length=1)
    """Values of FLAVOUR=."""
    machines: tuple[Text, ...] = Field((DEFAULT_MACHINE,), min_length=1)
    """Values of MACHINE=."""
    suites: tuple[Text, ...] = Field((DEFAULT_SUITE,), min_length=1)
    """Values of SUITE=, or ``kvm-test``: the cases of vm-configs/kvm-test.yaml under KVM, in an emulated machine."""
    qemus: tuple[Name, ...] = Field((DEFAULT_QEMU,), min_length=1)
    """Names of ``qemus``, or ``default``."""
    focus: bool = False
    """Whether only the cases of each machine's focus run."""


class Exclusion(Model):
    """A line of ``exclude``: removes the cells that match all its lists. An empty list matches every cell."""

    why: Text
    """The reason."""
    trees: tuple[Name, ...] = ()
    flavours: tuple[Flavour, ...] = ()
    machines: tuple[Text, ...] = ()
    suites: tuple[Text, ...] = ()
    qemus: tuple[Name, ...] = ()

    def matches(self, combination: "Combination") -> bool:
        """Return whether the line removes the cell."""
        lists = (self.trees, self.flavours, self.machines, self.suites, self.qemus)
        return all(value in names for value, names in zip(combination, lists, strict=True) if names)


Combination = tuple[str, str, str, str, str]
"""Tree, flavour, machine, suite and QEMU."""


class Plan(Model):
    """``vm-configs/nightly.yaml``."""

    budget: Duration | None = None
    """How long the night may take; None: as long as it takes."""
    trees: Mapping[Name, Tree] = Field(min_length=1)
    """The kernels under test, by name."""
    qemus: Mapping[Name, Text] = Field(default_factory=dict)
    """Values of QEMU=, by name: a binary, or debian:VERSION."""
    include: tuple[Line, ...] = Field(min_length=1)
    """The lines of the plan."""
    exclude: tuple[Exclusion, ...] = ()
    """The combinations that the plan leaves out."""

    @property
    def budget_s(self) -> float | None:
        """The budget, in seconds."""
        return seconds_of(self.budget) if self.budget else None

    def combinations(self) -> Iterator[tuple[int, Line, Combination]]:
        """Yield every cell with the number of its line and the line, those that ``exclude`` removes too."""
        for number, line in enumerate(self.include):
            for combination in product(line.trees, line.flavours, line.machines, line.suites, line.qemus):
                yield number, line, combination


def load_plan(path: Path = DEFAULT_PLAN) -> Plan:
    """Read a plan. Raises UsageError that names file, line and key of each mistake."""
    return load(path, Plan, check=_mistakes)


def _mistakes(plan: Plan) -> Iterator[tuple[Loc, str]]:
    """Yield the names that do not exist, the cells that are given twice, and the exclusions without effect."""
    known = {*suites(), KVM_TEST}
    qemus = {DEFAULT_QEMU, *plan.qemus}
    if DEFAULT_QEMU in plan.qemus:
        yield ("qemus", DEFAULT_QEMU), "this name is taken: it is the QEMU that a run finds itself"
    lines: list[tuple[str, int, Line | Exclusion]] = [("include", n, line) for n, line in enumerate(plan.include)]
    lines += [("exclude", n, line) for n, line in enumerate(plan.exclude)]
    for key, number, line in lines:
        yield from _unknown((key, number, "trees"), line.trees, plan.trees, "tree")
        yield from _unknown((key, number, "suites"), line.suites, known, "suite")
        yield from _unknown((key, number, "qemus"), line.qemus, qemus, "QEMU")
        if isinstance(line, Line) and KVM_TEST in line.suites:
            yield from _beyond_kvm_test(plan, number, line)
        for place, machine in enumerate(line.machines):
            try:
                load_machine(machine)
            except UsageError as error:
                yield (key, number, "machines", place), str(error)
    seen: dict[str, int] = {}
    for number, _, combination in plan.combinations():
        name = cell_id(combination)
        if name in seen:
            yield ("include", number), f"the cell {name} is given twice, by include[{seen[name]}] too: remove one"
        seen[name] = number
    for number, exclusion in enumerate(plan.exclude):
        if not any(exclusion.matches(combination) for _, _, combination in plan.combinations()):
            yield ("exclude", number), "no cell of include matches: remove the line"


def _beyond_kvm_test(plan: Plan, number: int, line: Line) -> Iterator[tuple[Loc, str]]:
    """Yield what a line asks of ``kvm-test`` that it does not have."""
    if line.focus:
        yield ("include", number, "focus"), "kvm-test has its own cases: give it a line without focus"
    cells = [each for place, _, each in plan.combinations() if place == number and each[3] == KVM_TEST]
    cells = [each for each in cells if not any(exclusion.matches(each) for exclusion in plan.exclude)]
    trees, machines = {cell[0] for cell in cells}, {cell[2] for cell in cells}
    for place, name in enumerate(line.trees):
        if name in trees and name in plan.trees and plan.trees[name].series:
            yield ("include", number, "trees", place), f"kvm-test takes no series, and the tree {name!r} has one"
    for place, name in enumerate(line.machines):
        if name in machines and _arch_of(name) not in (None, DEFAULT_ARCH):
            yield ("include", number, "machines", place), f"kvm-test runs machines of {DEFAULT_ARCH} only"


def _arch_of(machine: str) -> str | None:
    """Return the architecture of a machine; None if it cannot be read, which another mistake says."""
    try:
        return load_machine(machine).arch
    except UsageError:
        return None


def _unknown(
    loc: Loc, names: Sequence[str], known: Mapping[str, object] | set[str], kind: str
) -> Iterator[tuple[Loc, str]]:
    for place, name in enumerate(names):
        if name not in known:
            near = nearest(name, known) or "."
            yield (*loc, place), f"no {kind} {name!r}{near} Known: {', '.join(sorted(known))}"


def cell_id(combination: Combination) -> str:
    """Return the id of a cell: its parts, without the default QEMU."""
    tree, flavour, machine, suite, qemu = combination
    parts = [tree, flavour, Path(machine).stem, suite, *([qemu] if qemu != DEFAULT_QEMU else [])]
    return re.sub(r"[^A-Za-z0-9.-]", "-", "-".join(parts))


def expand(
    plan: Plan,
    path: Path,
    cases_of: Callable[[Cell], list[str]],
    expected: Mapping[str, float],
) -> list[Cell]:
    """Return the cells of the plan, in the order of the file.

    ``path``: the plan's file, for messages. ``cases_of``: the ids that the cell's suite selects on its machine.
    ``expected``: seconds by cell id, from earlier nights. Raises UsageError if nothing is left, or if a cell has no
    case.
    """
    cells = []
    for number, line, combination in plan.combinations():
        if any(exclusion.matches(combination) for exclusion in plan.exclude):
            continue
        tree, flavour, machine, suite, qemu = combination
        cell = Cell(
            id=cell_id(combination),
            tree=tree,
            kernel=plan.trees[tree].kernel,
            series=plan.trees[tree].series,
            flavour=flavour,
            machine=machine,
            suite=suite,
            qemu=plan.qemus.get(qemu),
            focus=line.focus,
            owner=line.owner,
            expected_s=expected.get(cell_id(combination)),
        )
        try:
            cases = cases_of(cell)
        except UsageError as error:
            raise UsageError(f"{path}: include[{number}]: {cell.id}: {error}", hint=error.hint) from None
        cells.append(cell.model_copy(update={"cases": cases}))
    if not cells:
        raise UsageError(f"{path}: exclude removes every cell", hint="remove a line of exclude")
    return cells
