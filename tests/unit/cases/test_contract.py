# SPDX-License-Identifier: GPL-2.0-only
"""Coverage of the contract by the cases: a row without a case and without a reason is missing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cases import contract as coverage
from harness.cases.collect import Collected, collect
from harness.cases.contract import Contract, Row, join
from harness.config import MachineConfig, known_machines, load, load_machine
from harness.errors import UsageError

ROWS = {
    "uapi.region": Row(title="which regions"),
    "uapi.size": Row(title="the size"),
    "uapi.earlier": Row(title="old series", reason="in no kernel"),
}


def case(*rows: str, importer: str | None = None) -> Collected:
    return Collected("test_x::test_it", "test_x.py::test_it", rows, importer)


def test_a_row_has_its_cases_importers_and_machines() -> None:
    rxe = case("uapi.region", importer="rxe")
    rows = join(ROWS, [rxe, rxe], [load_machine("intel-iommu")])
    assert rows["uapi.region"].importers == ["rxe"]
    assert rows["uapi.region"].machines == ["intel-iommu"]
    assert len(rows["uapi.region"].cases) == 2
    assert [name for name, row in rows.items() if row.missing] == ["uapi.size"]
    assert "1 missing: uapi.size" in coverage.as_text(rows)
    assert json.loads(coverage.as_json(rows))["uapi.earlier"]["reason"] == "in no kernel"


BARE = """
purpose: x
machine: {type: q35}
cpu: EPYC
vcpus: 1
memory_mib: 512
devices: [{type: virtio-net-pci, id: mgmt0, role: management}]
"""


def machine(tmp_path: Path, more: str = "") -> MachineConfig:
    path = tmp_path / "bare.yaml"
    path.write_text(BARE + more)
    return load_machine(path)


@pytest.mark.parametrize(
    ("fields", "runs"),
    [
        ({}, True),
        ({"importer": "rxe"}, False),  # the machine has no NIC for it
        ({"machines": ("bare",)}, True),
        ({"machines": ("switch",)}, False),
        ({"importer": "test importer", "needs": "dma-api"}, False),
        ({"needs": "iommufd"}, True),
    ],
)
def test_a_machine_covers_the_cases_that_run_there(tmp_path: Path, fields: dict[str, Any], runs: bool) -> None:
    bare = machine(tmp_path, "lacks: {dma-api: no route}\n")
    rows = join(ROWS, [replace(case("uapi.size"), **fields)], [bare])
    assert rows["uapi.size"].machines == (["bare"] if runs else [])


def test_a_machine_that_names_an_unknown_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"bare\.yaml: row 'uapi.sise' is not in .*; did you mean 'uapi.size'"):
        join(ROWS, [], [machine(tmp_path, "rows: [uapi.sise]\n")])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("uapi.regoin",), r"test_x\.py::test_it: row 'uapi.regoin' is not in .*; did you mean 'uapi.region'"),
        ((), r"test_x\.py::test_it: names no row"),
    ],
)
def test_a_case_that_names_no_row_or_an_unknown_one_is_refused(rows: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        join(ROWS, [case(*rows)])


def test_a_row_outside_the_sections_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text("rows:\n  uapy.region: {title: x}\n")
    with pytest.raises(UsageError, match=r"contract\.yaml:2: rows\.uapy\.region"):
        load(path, Contract)


def test_every_shipped_case_and_machine_names_rows_of_the_contract() -> None:
    join(coverage.contract(), collect(), map(load_machine, known_machines()))
