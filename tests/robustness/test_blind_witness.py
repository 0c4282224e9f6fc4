# SPDX-License-Identifier: GPL-2.0-only
"""A witness that cannot see makes every case an ERROR that names it, whether the case expects an event or silence."""

import shutil
from pathlib import Path

import pytest
from commandline import CommandLine

from harness.config import DEFAULT_ARCH, architecture

ARRIVAL = "test_doorbell_reaches_the_controller[iommufd+nvme]"
SILENCE = "test_no_doorbell_no_completion[iommufd+nvme]"
"""It passes if the host sees nothing, which a blind witness sees, too."""

PROGRAM = architecture(DEFAULT_ARCH).qemu.program

WRAPPERS = {
    "doorbell trace": 'for word; do shift; [ "$last" = -D ] && word=/dev/null; last=$word; set -- "$@" "$word"; done',
    "QEMU's stderr": "exec 2>/dev/null",
}
"""By the witness that it blinds: what a shell script does before it starts QEMU with its arguments."""
KERNEL_ARGS = {
    "console": ["intel_iommu=on", "iommu.strict=1", "quiet"],  # quiet hides what is not worse than a warning
    "IOMMU fault trace": ["intel_iommu=off"],
}
"""By the witness that has nothing to see: the machine's kernel arguments."""


def assert_error_names(harness: CommandLine, witness: str, *options: str | Path) -> None:
    outcome = harness("run", "--jobs=1", "-k", f"{ARRIVAL} or {SILENCE}", *options)
    assert outcome.code == 3
    assert outcome.verdicts() == {ARRIVAL: "ERROR", SILENCE: "ERROR"}
    for case in outcome.cases().values():
        assert case["reason"].startswith(f"blind witness, {witness}: ")


@pytest.mark.parametrize("witness", WRAPPERS)
def test_qemu_that_hides_what_happens(harness: CommandLine, tmp_path: Path, witness: str) -> None:
    wrapper = tmp_path / "qemu"
    wrapper.write_text(f'#!/bin/sh\n{WRAPPERS[witness]}\nexec {shutil.which(PROGRAM)} "$@"\n')
    wrapper.chmod(0o755)
    assert_error_names(harness, witness, "--qemu", wrapper)


@pytest.mark.parametrize("witness", KERNEL_ARGS)
def test_kernel_that_hides_what_happens(harness: CommandLine, tmp_path: Path, witness: str) -> None:
    machine = tmp_path / "blind.yaml"
    arguments = "".join(f"  - {each}\n" for each in KERNEL_ARGS[witness])
    machine.write_text(f"purpose: A machine that is blind.\nextends: intel-iommu\nkernel_args:\n{arguments}")
    assert_error_names(harness, witness, "--machine", machine)
