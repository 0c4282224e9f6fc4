# SPDX-License-Identifier: GPL-2.0-only
"""Automatic mutants: which cases a mutant meets by itself."""

from harness.commands.auto_mutant_runs import spread

SECONDS = {"a::x[1]": 0.1, "a::x[2]": 0.2, "a::y": 3.0, "b::z": 0.5, "b::slow": 30.0}


def test_the_cheapest_of_each_function_comes_first() -> None:
    assert spread(SECONDS, SECONDS, 4.0) == ["a::x[1]", "b::z", "a::y"]


def test_a_second_variant_comes_when_there_is_time() -> None:
    assert spread(["a::x[1]", "a::x[2]", "b::z"], SECONDS, 4.0) == ["a::x[1]", "b::z", "a::x[2]"]


def test_one_case_runs_however_long_it_takes() -> None:
    assert spread(["b::slow"], SECONDS, 4.0) == ["b::slow"]
    assert spread([], SECONDS, 4.0) == []
