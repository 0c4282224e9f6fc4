# SPDX-License-Identifier: GPL-2.0-only
"""QEMU command line, process, QMP, console, SSH: a Machine as a context manager."""

from harness.vm.accel import Accel, choose_accel
from harness.vm.command import Boot
from harness.vm.machine import Machine
from harness.vm.prerequisites import prerequisites
from harness.vm.qemu import Qemu, settle

__all__ = ["Accel", "Boot", "Machine", "Qemu", "choose_accel", "prerequisites", "settle"]
