# SPDX-License-Identifier: GPL-2.0-only
"""Reading KTAP, as the kernel's selftests print it."""

import pytest

from harness.cases import ktap
from harness.cases.ktap import Report, Result

OUTPUT = """\
Using cdev device /dev/vfio/devices/vfio0
TAP version 13
1..4
# Starting 4 tests from 2 test cases.
#  RUN           vfio_cdev.bind ...
#            OK  vfio_cdev.bind
ok 1 vfio_cdev.bind
# reset.c:12:reset:Expected 0 (0) == ret (-22)
not ok 2 vfio_pci_device_test.reset
#      SKIP      MSI: not supported
ok 3 vfio_pci_irq_test.msi # SKIP MSI: not supported
not ok 4 - vfio_known # XFAIL a bug
# FAILED: 2 / 4 tests passed.
# Totals: pass:1 fail:1 xfail:1 xpass:0 skip:1 error:0
"""


def test_results() -> None:
    report = ktap.read(OUTPUT)
    assert report.planned == 4
    assert report.results == (
        Result("vfio_cdev.bind", "passed"),
        Result("vfio_pci_device_test.reset", "failed"),
        Result("vfio_pci_irq_test.msi", "skipped", "MSI: not supported"),
        Result("vfio_known", "passed", "a bug"),
    )
    assert report.named("failed") == ["vfio_pci_device_test.reset"]


@pytest.mark.parametrize(
    ("output", "report"),
    [
        ("TAP version 13\n1..0 # SKIP no SR-IOV\n", Report(0, (), "no SR-IOV")),
        ("No driver found for device 0000:01:00.0\n", Report(None, ())),
        ("# storm: Test terminated by timeout\n", Report(None, (), timed_out=("storm",))),
        ("ok, let us begin\nnot okay\n# ok 1 a\n", Report(None, ())),
    ],
)
def test_no_results(output: str, report: Report) -> None:
    assert ktap.read(output) == report
