# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own tests that the harness runs (vm-configs/kernel-tests.yaml)."""

from pathlib import Path

import pytest

from harness.cases import kernel_tests, suites
from harness.config import load_machine
from harness.errors import UsageError
from harness.host.packages import packages
from harness.kernel.build import kconfig


def test_each_program_is_a_case_of_its_suite() -> None:
    known = suites.suites()
    for program in kernel_tests.programs():
        assert suites.suite_of(f"test_kernel_tests::test_program[{program}]", known) == program.suite


def test_the_machines_have_the_devices() -> None:
    for tests in kernel_tests.suites().values():
        for name in ("intel-iommu", *tests.on):
            device = tests.device_on(name)
            assert device is None or load_machine(name).device(device)
    assert kernel_tests.suites()["kselftest-vfio"].device_on("igb") == "igb0"


def test_what_a_suite_needs_is_known() -> None:
    packaged = {used for package in packages() for used in package.used}
    for tests in kernel_tests.suites().values():
        assert {*tests.needs} <= kconfig.requirements().features.keys()
        assert {*tests.host} <= packaged


def test_a_mistake_names_file_line_and_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kernel-tests.yaml"
    path.write_text("suites:\n  kselftest-vfio:\n    directory: tools\n    seconds: 9\n    programs: []\n")
    monkeypatch.setattr(kernel_tests, "PATH", path)
    with pytest.raises(UsageError, match=r"kernel-tests.yaml:5: suites.kselftest-vfio.programs: must not be empty"):
        kernel_tests.programs()
