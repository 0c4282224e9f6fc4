# SPDX-License-Identifier: GPL-2.0-only
"""A guest whose clock runs too fast makes ERROR: it would give up waiting before anything could happen."""

from pathlib import Path

from commandline import CommandLine

CASE = "test_doorbell_reaches_the_controller[iommufd+nvme]"
TSC_KHZ = 28_152
"""What a kernel on a busy host once found for a TSC of 2.6 GHz."""


def test_clock_that_runs_too_fast(harness: CommandLine, tmp_path: Path) -> None:
    machine = tmp_path / "fast.yaml"
    machine.write_text(
        "purpose: A machine whose kernel gets a wrong frequency of the TSC.\nextends: intel-iommu\n"
        f"kernel_args: [intel_iommu=on, iommu.strict=1, tsc_early_khz={TSC_KHZ}]\n"
    )
    outcome = harness("run", "-k", CASE, "--machine", machine)
    assert outcome.code == 3
    assert outcome.verdicts() == {CASE: "ERROR"}
    assert outcome.cases()[CASE]["reason"].startswith("the guest's clock is too fast: ")
