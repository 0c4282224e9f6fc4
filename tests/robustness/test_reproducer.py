# SPDX-License-Identifier: GPL-2.0-only
"""Test that the C program of a case that fails says what the case says: with the bug, and without it."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from commandline import CommandLine


@dataclass(frozen=True)
class Example:
    """A bug, and how it is run."""

    name: str
    case: str
    """The expression that chooses its case."""
    bad: tuple[str, ...] = ()
    """The options of the kernel with the bug."""
    good: tuple[str, ...] = ("--fixed",)
    """The options of the one without it."""


PUT_BACK = "config-space-reset-not-revoked"
EXAMPLES = (
    Example("revoked-after-wakeup", "test_waking_up_unrevokes"),
    Example("ranges-freed-unmapped", "test_ranges_that_fit_nowhere"),
    Example(PUT_BACK, "test_trigger_revokes and flr and nvme", ("--mutation", PUT_BACK), ()),
)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_a_case_that_fails_becomes_a_program(harness: CommandLine, tmp_path: Path, example: Example) -> None:
    harness("run", "--jobs", "1", "-k", example.case, *example.bad)
    name = example.name
    source = tmp_path / f"{name}.c"
    made = harness("reproducer", "make", harness.results / "latest", "*", "--name", name, "-o", source, "--tar")
    assert made.code == 0, made.output
    assert source.with_suffix(".tar.gz").is_file()
    shown = harness("reproducer", "run", source, *example.bad)
    assert shown.code == 1, shown.output
    assert f"not ok 1 {name}" in shown.output
    control = harness("reproducer", "run", source, *example.good)
    assert control.code == 0, control.output
    assert f"\nok 1 {name}" in control.output


def test_a_program_of_ones_own(harness: CommandLine, tmp_path: Path) -> None:
    """One that ends without a verdict, and one that does not compile."""
    source = tmp_path / "mine.c"
    source.write_text("int main(void) { return 0; }\n")  # an init that returns makes the kernel panic
    ended = harness("reproducer", "run", source)
    assert ended.code == 3, ended.output
    assert "no verdict" in ended.output
    source.write_text("int main(void) { return x; }\n")
    broken = harness("reproducer", "run", source)
    assert broken.code == 2, broken.output
    assert "mine.c does not compile" in broken.output
