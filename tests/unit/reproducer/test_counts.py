# SPDX-License-Identifier: GPL-2.0-only
"""The counts of instructions: what the program prints, and which growth is too steep."""

import subprocess
from pathlib import Path

import pytest

from harness.reproducer.counts import Cost, costs, source, table

NUMBERS = (1, 10, 100, 1000)


def cost(of: str) -> Cost:
    """Return a cost that grows as ``of`` says, beside a large constant."""
    grown = {"constant": lambda n: 0, "linear": lambda n: 500 * n, "quadratic": lambda n: 7 * n * n}[of]
    return Cost(f"revoke-of-{of}", {number: 100_000 + grown(number) for number in NUMBERS})


@pytest.mark.parametrize(
    ("of", "slope", "steep"), [("constant", 0, False), ("linear", 1, False), ("quadratic", 2, True)]
)
def test_slope(of: str, slope: float, steep: bool) -> None:
    found = cost(of)
    assert found.slope == pytest.approx(slope, abs=0.1)
    assert found.steep is steep


def test_the_lines_of_the_program() -> None:
    lines = ["KTAP version 1", "# count export-of-ranges 1 5000", "# count export-of-ranges 10 9000", "ok 1 counts"]
    assert costs(lines) == [Cost("export-of-ranges", {1: 5000, 10: 9000})]


def test_the_table_marks_what_is_steep() -> None:
    head, linear, quadratic = table([cost("linear"), cost("quadratic")]).splitlines()
    assert head.split() == ["instructions", "1", "10", "100", "1,000", "slope"]
    assert linear.split()[-1] == "1.00"
    assert quadratic.endswith("2.00 steep")


def test_the_program_compiles(tmp_path: Path) -> None:
    path = tmp_path / "counts.c"
    path.write_text(source())
    done = subprocess.run(
        ["cc", "-fsyntax-only", "-O2", "-Wall", "-Wextra", "-Werror", path], capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
