# SPDX-License-Identifier: GPL-2.0-only
"""Test that a series which changes rows of the contract by design is judged by the rows that it brings.

Small patches stand in for the series. A kernel without one, and a kernel that only lost a check, are judged by the old
row.
"""

from pathlib import Path

import pytest
from commandline import CommandLine

STAND_INS = Path(__file__).with_name("pending")

CASES = {
    "mmap": (
        "test_export_cannot_be_mapped_by_the_cpu[doorbells]",
        ["test_mmap_reaches_the_bar", "test_a_revoke_takes_the_pages"],
    ),
    "iommufd-ranges": (
        "test_several_ranges_are_refused",
        ["test_several_ranges_are_mapped_in_order[iommufd+nvme]"],
    ),
}
"""By change: the case of the row until it, and the cases of the rows since it."""
SELECT = "by_the_cpu or test_mmap or takes_the_pages or test_several_ranges"
LOST_CHECKS = {"mmap": "mmap-handler", "iommufd-ranges": "many-ranges"}
"""By change: the mutation that accepts the same call, and breaks what the series adds."""


def expect(change: str, *, has: bool) -> dict[str, str]:
    until, since = CASES[change]
    return {until: "SKIP" if has else "PASS", **dict.fromkeys(since, "PASS" if has else "SKIP")}


def test_a_kernel_without_a_change_is_judged_by_the_old_rows(harness: CommandLine) -> None:
    """The skipped cases name the series."""
    outcome = harness("run", "--jobs", "1", "-k", SELECT)
    assert outcome.code == 0, outcome.output
    for change in CASES:
        wanted = expect(change, has=False)
        assert {name: outcome.verdicts()[name] for name in wanted} == wanted
    reason = outcome.cases()["test_mmap_reaches_the_bar"]["reason"]
    assert reason.startswith("this kernel lacks mmap, which [PATCH ")
    assert "20260701171245.90111-1-matt@ozlabs.org" in reason


@pytest.mark.parametrize("change", CASES)
def test_a_kernel_with_a_change_is_judged_by_the_new_rows(harness: CommandLine, change: str) -> None:
    """Only the rows of this change differ."""
    outcome = harness("run", "--jobs", "1", "--series", STAND_INS / f"{change}.patch", "-k", SELECT)
    assert outcome.code == 0, outcome.output
    for each in CASES:
        wanted = expect(each, has=each == change)
        assert {name: outcome.verdicts()[name] for name in wanted} == wanted
    until, _ = CASES[change]
    assert "does not hold on a kernel with" in outcome.cases()[until]["reason"]


@pytest.mark.parametrize("change", CASES)
def test_a_kernel_that_lost_the_check_fails(harness: CommandLine, change: str) -> None:
    """It accepts the call, but what the series adds does not work."""
    outcome = harness("run", "--jobs", "1", "--mutation", LOST_CHECKS[change], "-k", SELECT)
    assert outcome.code == 1, outcome.output
    until, since = CASES[change]
    assert outcome.verdicts()[until] == "FAIL"
    assert {outcome.verdicts()[name] for name in since} == {"SKIP"}
