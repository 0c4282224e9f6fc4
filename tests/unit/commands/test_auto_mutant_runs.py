# SPDX-License-Identifier: GPL-2.0-only
"""Automatic mutants: which cases a mutant meets by itself."""

from pathlib import Path

from harness.commands.auto_mutant_runs import spread, write_machine
from harness.config import load_machine

SECONDS = {"a::x[1]": 0.1, "a::x[2]": 0.2, "a::y": 3.0, "b::z": 0.5, "b::slow": 30.0}


def test_the_cheapest_of_each_function_comes_first() -> None:
    assert spread(SECONDS, SECONDS, 4.0) == ["a::x[1]", "b::z", "a::y"]


def test_a_second_variant_comes_when_there_is_time() -> None:
    assert spread(["a::x[1]", "a::x[2]", "b::z"], SECONDS, 4.0) == ["a::x[1]", "b::z", "a::x[2]"]


def test_one_case_runs_however_long_it_takes() -> None:
    assert spread(["b::slow"], SECONDS, 4.0) == ["b::slow"]
    assert spread([], SECONDS, 4.0) == []


def test_a_machine_with_one_more_kernel_argument_keeps_its_name_and_focus(tmp_path: Path) -> None:
    base, written = load_machine("aer"), load_machine(str(write_machine(tmp_path, "aer", "quiet")))
    assert (written.name, written.focus) == (base.name, base.focus)
    assert written.kernel_args == (*base.kernel_args, "quiet")
