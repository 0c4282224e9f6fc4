# SPDX-License-Identifier: GPL-2.0-only
"""The selection of cases: suite, machine, focus, the order with a mutation, and what is refused."""

import re
from pathlib import Path

import pytest

from harness.bugs import load_bug
from harness.errors import UsageError
from harness.run.options import Options
from harness.run.select import Candidate, select

ORDINARY = Candidate("test_doorbell::test_a", covers=frozenset({"importers.live", "importers"}))
MODEL = [Candidate(f"test_model::test_programs[{part}]") for part in range(2)]
STRESS = Candidate("test_stress::test_b", covers=frozenset({"lifecycle.reset", "lifecycle"}))
FOR_AER = Candidate("test_revoke::test_c[aer]", machines=("aer",))
FOR_TWO = Candidate("test_domains::test_d", machines=("switch", "virtio-iommu"))
ALL = [ORDINARY, STRESS, FOR_AER, FOR_TWO]


def chosen(options: Options, *candidates: Candidate) -> list[Candidate]:
    cases = candidates or ALL
    return [cases[index] for index in select(cases, options)]


def test_a_run_has_the_cases_of_its_suite() -> None:
    assert chosen(Options()) == [ORDINARY]
    assert chosen(Options(suite="stress")) == [STRESS]


def test_a_case_that_names_machines_runs_on_them_only() -> None:
    assert chosen(Options(machine="aer")) == [ORDINARY, FOR_AER]
    assert chosen(Options(machine="virtio-iommu")) == [ORDINARY, FOR_TWO]
    assert chosen(Options(machine="/elsewhere/aer.yaml")) == [ORDINARY, FOR_AER], "a file counts by its name"


def test_one_case_runs_a_program(tmp_path: Path) -> None:
    assert chosen(Options(suite="model"), ORDINARY, *MODEL) == MODEL
    file = tmp_path / "a.program"
    options = Options(suite="model", program=file)
    with pytest.raises(UsageError, match=r"a\.program: No such file"):
        chosen(options, *MODEL)
    file.write_text("reset()")
    assert chosen(options, ORDINARY, *MODEL) == MODEL[:1]
    file.write_bytes(b"\xff")
    with pytest.raises(UsageError, match=r"a\.program: not text"):
        chosen(options, *MODEL)


def test_focus_keeps_the_rows_of_the_machine_and_the_cases_that_name_it() -> None:
    other = Candidate("test_uapi::test_e", covers=frozenset({"uapi.bounds", "uapi"}))
    assert chosen(Options(machine="virtio-iommu", focus=True), ORDINARY, other, FOR_TWO) == [ORDINARY, FOR_TWO]
    assert chosen(Options(focus=True), ORDINARY, other) == [ORDINARY, other], "no focus: everything"


def test_the_cases_that_should_show_a_mutation_come_first() -> None:
    entry = load_bug("flags-unchecked")
    shows = Candidate(entry.expects.cases[0].replace("*", "x"))
    assert chosen(Options(mutation=entry.id), ORDINARY, shows) == [shows, ORDINARY]
    assert chosen(Options(), ORDINARY, shows) == [ORDINARY, shows]
    assert chosen(Options(mutation="no-such-bug"), ORDINARY, shows) == [ORDINARY, shows], "Setup.prepare refuses it"


@pytest.mark.parametrize(
    ("options", "candidates", "complaint"),
    [
        (Options(suite="stres"), ALL, "no suite 'stres' .*did you mean 'stress'"),
        (Options(), [STRESS], "these cases are in the suite stress, not in default; fix: choose with --suite"),
        (
            Options(),
            [FOR_AER, FOR_TWO],
            "these cases are for aer, switch, virtio-iommu, not for intel-iommu; fix: choose with --machine",
        ),
        (
            Options(machine="virtio-iommu", focus=True),
            [Candidate("test_uapi::test_e", covers=frozenset({"uapi.bounds"}))],
            "these cases are not in the focus of virtio-iommu: .*; fix: leave --focus out",
        ),
        (Options(program=Path("a.program")), ALL, "--program is for the suite model; fix: add --suite model"),
        (Options(machine="intel-immu", focus=True), ALL, "did you mean 'intel-iommu'"),
    ],
)
def test_a_selection_that_leaves_nothing_is_refused(
    options: Options, candidates: list[Candidate], complaint: str
) -> None:
    with pytest.raises(UsageError) as refused:
        select(candidates, options)
    assert re.search(complaint, f"{refused.value}; fix: {refused.value.hint}")
