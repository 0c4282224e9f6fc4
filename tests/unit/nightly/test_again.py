# SPDX-License-Identifier: GPL-2.0-only
"""The command that runs a case of a night again, in a checkout and where there is no Makefile."""

import pytest

from harness import paths
from harness.nightly.again import command
from harness.nightly.record import Cell
from harness.verdict import CaseRecord, GitRecord, KernelRecord, ProgramRecord, Verdict

NAME = "test_model::test_programs[1]"
CELL = Cell(id="c", tree="t", kernel="~/linux@main", flavour="debug", machine="aer", suite="model")
CASE = CaseRecord(id=NAME, area="model", title="t", verdict=Verdict.FAIL, duration_s=1, seed=7,
                  program=ProgramRecord(file="results/1/p.program", calls=["flr()"]))  # fmt: skip
KERNEL = KernelRecord(release="7.3", origin="o", config_hash="", git=GitRecord(url="u", ref="main", commit="c" * 40))


@pytest.mark.parametrize(
    ("installed", "said"),
    [
        (False, f"make vm-test MACHINE=aer KERNEL='~/linux@{'c' * 40}' FLAVOUR=debug SUITE=model SEED=7"
                " K='test_programs[1]' PROGRAM=p.program"),
        (True, f"vfio-harness run --machine aer --kernel '~/linux@{'c' * 40}' --flavour debug --suite model --seed 7"
               " -k 'test_programs[1]' --program p.program"),
    ],
)  # fmt: skip
def test_the_commit_the_seed_and_the_program_are_those_of_the_night(
    monkeypatch: pytest.MonkeyPatch, installed: bool, said: str
) -> None:
    monkeypatch.setattr(paths, "INSTALLED", installed)
    assert command(CELL, NAME, CASE, KERNEL) == said


@pytest.mark.parametrize("installed", [False, True])
def test_a_cell_of_kvm_test_runs_again_under_kvm_test(monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    monkeypatch.setattr(paths, "INSTALLED", installed)
    nested = Cell(id="c", tree="t", kernel="debian:7.3", flavour="release", machine="intel-iommu", suite="kvm-test")
    said = ["make kvm-test KERNEL=debian:7.3 K=test_x", "vfio-harness kvm-test --kernel debian:7.3 -k test_x"]
    assert command(nested, "test_a::test_x") == said[installed]


@pytest.mark.parametrize(
    ("installed", "said"), [(False, "make vm-test K=test_x"), (True, "vfio-harness run -k test_x")]
)
def test_defaults_are_left_out(monkeypatch: pytest.MonkeyPatch, installed: bool, said: str) -> None:
    monkeypatch.setattr(paths, "INSTALLED", installed)
    plain = Cell(id="c", tree="t", kernel=None, flavour="release", machine="intel-iommu", suite="default", focus=True)
    assert command(plain, "test_a::test_x") == said
