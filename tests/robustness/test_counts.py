# SPDX-License-Identifier: GPL-2.0-only
"""Test that `vfio-harness counts` gives the same counts on a busy host, and notices a revoke that became quadratic."""

from pathlib import Path

from commandline import CommandLine, Finished

QUADRATIC = Path(__file__).with_name("counts") / "quadratic-revoke.patch"
NOISE = 0.05
"""By how much a count may differ: interrupts come at other moments."""


def counts(outcome: Finished) -> dict[str, list[int]]:
    """Return the counts of each cost, by its name."""
    rows = (line.split() for line in outcome.output.splitlines() if "-of-" in line.split(" ")[0])
    return {row[0]: [int(word.replace(",", "")) for word in row[1:5]] for row in rows}


def test_the_counts_are_the_same_twice(harness: CommandLine) -> None:
    first, second = harness("counts"), harness("counts")
    assert (first.code, second.code) == (0, 0), first.output + second.output
    assert "steep" not in first.output
    one, other = counts(first), counts(second)
    assert one.keys() == other.keys()
    assert len(one) == 7
    for name, before in one.items():
        for old, new in zip(before, other[name], strict=True):
            assert abs(old - new) <= NOISE * old, (name, before, other[name])


def test_a_quadratic_revoke_is_steep(harness: CommandLine) -> None:
    """Only the cost that the series changed."""
    outcome = harness("counts", "--series", QUADRATIC)
    assert outcome.code == 1, outcome.output
    steep = [line.split()[0] for line in outcome.output.splitlines() if line.endswith("steep")]
    assert steep == ["revoke-of-buffers"]
