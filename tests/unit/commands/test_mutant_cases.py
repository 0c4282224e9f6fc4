# SPDX-License-Identifier: GPL-2.0-only
"""Which cases an automatic mutant meets."""

from harness.bugs.auto import AutoMutant
from harness.bugs.rules import Edit
from harness.commands.mutant_cases import reaching, spread
from harness.gcov.counters import Reached
from harness.gcov.measure import FunctionCoverage, KernelCoverage
from harness.run.options import Options

SECONDS = {"a::x[1]": 0.1, "a::x[2]": 0.2, "a::y": 3.0, "b::z": 0.5, "b::slow": 30.0}


def test_the_cheapest_of_each_function_comes_first() -> None:
    assert spread(SECONDS, SECONDS, 4.0) == ["a::x[1]", "b::z", "a::y"]


def test_a_second_variant_comes_when_there_is_time() -> None:
    assert spread(["a::x[1]", "a::x[2]", "b::z"], SECONDS, 4.0) == ["a::x[1]", "b::z", "a::x[2]"]


def test_one_case_runs_however_long_it_takes() -> None:
    assert spread(["b::slow"], SECONDS, 4.0) == ["b::slow"]
    assert spread([], SECONDS, 4.0) == []


def test_only_cases_of_the_machine_reach_a_mutant() -> None:
    reached = {Reached("one", "no-iommu"), Reached("two", "switch"), Reached("three", "no-iommu", fail_nth=True)}
    coverage = KernelCoverage({("x.c", "f"): FunctionCoverage("x.c", "f", {7: reached})})
    mutant = AutoMutant("m", "x.c", Edit("f", 7, "drop-call", 0, 0, b""), "")
    assert reaching(mutant, coverage, Options(machine="no-iommu")) == {"one"}
