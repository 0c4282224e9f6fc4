# SPDX-License-Identifier: GPL-2.0-only
"""The rows of the contract (vm-configs/contract.yaml), and the cases, importers and machines that cover each."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from harness import paths
from harness.cases.collect import Collected, collect
from harness.config import MachineConfig, Model, known_machines, load, load_machine
from harness.config.loader import nearest
from harness.errors import UsageError
from harness.session import IMPORTERS

PATH = paths.VM_CONFIGS / "contract.yaml"

RowId = Annotated[str, StringConstraints(pattern=r"^(uapi|lifecycle|importers|around)\.[a-z0-9]+(-[a-z0-9]+)*$")]
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


class Row(Model):
    """A row of the contract."""

    title: Text
    """The rule."""
    reason: Text | None = None
    """Why no case covers it; None if cases must."""
    until: str | None = None
    """The pending change (a key of ``Contract.pending``) that ends it. It holds on kernels without the change."""
    since: str | None = None
    """The pending change that brings it. It holds on kernels with the change."""


class Pending(Model):
    """A series on the lists that changes rows by design."""

    series: Text
    """The subject of its cover letter, or of the patch."""
    message_id: Text
    """The message-id of that mail."""
    changes: Text
    """What it changes."""
    unprobed: Text | None = None
    """Why no probe looks for it: its rows hold as on a kernel without it. None if harness/cases/pending.py has one."""


class Contract(Model):
    """vm-configs/contract.yaml."""

    pending: dict[str, Pending] = Field(default={})
    rows: dict[RowId, Row]

    @model_validator(mode="after")
    def _known_changes(self) -> "Contract":
        for name, row in self.rows.items():
            if row.until and row.since:
                raise ValueError(f"{name}: until and since exclude each other")
            if (change := row.until or row.since) and change not in self.pending:
                raise ValueError(f"{name}: {change!r} is not a pending change{nearest(change, self.pending)}")
        return self


@dataclass
class Covered:
    """A row and what covers it."""

    title: str
    """The rule."""
    cases: list[str] = field(default_factory=list)
    """The ids of the cases that name the row."""
    importers: list[str] = field(default_factory=list)
    """The importers that those cases take."""
    machines: list[str] = field(default_factory=list)
    """The shipped machines on which at least one of those cases runs."""
    reason: str | None = None
    """Why no case covers the row; None if cases must."""

    @property
    def missing(self) -> bool:
        """Whether the row has neither a case nor a reason."""
        return not self.cases and not self.reason

    def __str__(self) -> str:
        """What covers the row, in one line."""
        if not self.cases:
            return "MISSING" if self.missing else f"no case: {self.reason}"
        count = f"{len(self.cases)} case{'s' if len(self.cases) > 1 else ''}"
        machines = "every machine" if self.machines == known_machines() else ", ".join(self.machines)
        return "; ".join(filter(None, (count, ", ".join(self.importers), machines)))


def contract() -> dict[str, Row]:
    """Return every row, in the order of the file. Raises UsageError naming file, line and key."""
    return read().rows


def read() -> Contract:
    """Read the rows and the pending changes. Raises UsageError naming file, line and key."""
    return load(PATH, Contract)


def join(
    rows: dict[str, Row], cases: Iterable[Collected], machines: Iterable[MachineConfig] = ()
) -> dict[str, Covered]:
    """Return each row with the cases that name it.

    Raises UsageError if a case names no row, or if a case or a machine names an unknown one.
    """
    known = {name: Covered(row.title, reason=row.reason) for name, row in rows.items()}
    machines = list(machines)
    for machine in machines:
        _require(machine.rows, known, str(machine.path))
        _require((name for name in machine.focus if "." in name), known, str(machine.path))
    for case in cases:
        if not case.rows:
            raise UsageError(f"{case.where}: names no row of {PATH}: @pytest.mark.contract(area, row)")
        _require(case.rows, known, case.where)
        for covered in map(known.__getitem__, case.rows):
            covered.cases.append(case.id)
            if case.importer and case.importer not in covered.importers:
                covered.importers.append(case.importer)
            covered.machines += [
                machine.name for machine in machines if machine.name not in covered.machines and runs_on(case, machine)
            ]
    return known


def _require(names: Iterable[str], known: Iterable[str], where: str) -> None:
    for name in names:
        if name not in known:
            raise UsageError(f"{where}: row {name!r} is not in {PATH}{nearest(name, known)}")


def runs_on(case: Collected, machine: MachineConfig) -> bool:
    """Return whether the case is for the machine, and the machine has what its importer needs."""
    if (case.machines and machine.name not in case.machines) or (case.needs and case.needs in machine.lacks):
        return False
    kind = IMPORTERS.get(case.importer or "")
    return kind is None or any(device.kind == kind.device_kind for device in machine.with_role(kind.role))


def coverage() -> dict[str, Covered]:
    """Return the coverage of the contract by the cases in tests/vm, on every shipped machine."""
    return join(contract(), collect(), map(load_machine, known_machines()))


def as_json(rows: dict[str, Covered]) -> str:
    """Format every row as JSON."""
    return json.dumps({name: asdict(row) for name, row in rows.items()}, indent=2)


def as_text(rows: dict[str, Covered]) -> str:
    """Format two lines for each row, and the number of missing rows."""
    width = max(map(len, rows))
    lines = [f"{name:{width}}  {row.title}\n{'':{width}}    {row}" for name, row in rows.items()]
    missing = [name for name, row in rows.items() if row.missing]
    return "\n".join(
        [*lines, f"{len(rows)} rows, {len(missing)} missing" + (f": {', '.join(missing)}" if missing else "")]
    )
