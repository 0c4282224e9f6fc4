# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own tests that the harness runs (vm-configs/kernel-tests.yaml)."""

from pathlib import Path

import pytest

from harness.cases import kernel_tests, suites
from harness.config import load_machine
from harness.errors import UsageError


def test_each_program_is_a_case_of_its_suite() -> None:
    known = suites.suites()
    for program in kernel_tests.programs():
        assert suites.suite_of(f"test_kernel_tests::test_program[{program}]", known) == program.suite


def test_the_default_machine_has_the_devices() -> None:
    devices = {device.id for device, _ in load_machine("intel-iommu").walk()}
    assert {program.device for program in kernel_tests.programs()} <= devices


def test_a_mistake_names_file_line_and_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kernel-tests.yaml"
    path.write_text("suites:\n  kselftest-vfio:\n    directory: tools\n    device: nvme0\n    programs: []\n")
    monkeypatch.setattr(kernel_tests, "PATH", path)
    with pytest.raises(UsageError, match=r"kernel-tests.yaml:5: suites.kselftest-vfio.programs: must not be empty"):
        kernel_tests.programs()
