# SPDX-License-Identifier: GPL-2.0-only
"""A KVM that opens and boots nothing is the host's failure, and is refused before the first case."""

import time

import pytest
from commandline import CommandLine

from harness.kernel import Kernel
from harness.progress import silent
from harness.vm import Qemu, choose_accel

SECONDS = 40.0
"""The probe's 5 s and 10 s, and what else a run does before its first boot, on a busy host."""


def test_forced_kvm_that_boots_nothing_is_refused(harness: CommandLine, default_kernel: Kernel) -> None:
    if choose_accel("auto", Qemu.probe(), default_kernel.image, silent).name == "kvm":
        pytest.skip("KVM works on this host")
    began = time.monotonic()
    outcome = harness("run", "--accel", "kvm", "-k", "test_doorbell_reaches_the_controller")
    assert time.monotonic() - began < SECONDS
    assert outcome.code == 3
    assert "error: this host's KVM cannot be used: " in outcome.output
    assert not outcome.reports()
