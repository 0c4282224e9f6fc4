# SPDX-License-Identifier: GPL-2.0-only
"""Run a VM: QEMU's command line, process, QMP, console and SSH, as a ``Machine`` context manager."""

from harness.vm.accel import Accel, InstructionCounter, Trial, choose_accel
from harness.vm.command import Boot
from harness.vm.machine import Machine
from harness.vm.prerequisites import prerequisites
from harness.vm.qemu import Qemu, settle

__all__ = ["Accel", "Boot", "InstructionCounter", "Machine", "Qemu", "Trial", "choose_accel", "prerequisites", "settle"]
