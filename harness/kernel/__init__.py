# SPDX-License-Identifier: GPL-2.0-only
"""Where a kernel comes from, its build, its features, its modules."""

from harness.kernel.change import Change
from harness.kernel.features import lacking
from harness.kernel.model import DmabufUapi, Flavour, Kernel, KernelSpec, RxeSupport
from harness.kernel.prerequisites import Prerequisite, prerequisites
from harness.kernel.ready import build_module, obtain, with_modules

__all__ = [
    "Change",
    "DmabufUapi",
    "Flavour",
    "Kernel",
    "KernelSpec",
    "Prerequisite",
    "RxeSupport",
    "build_module",
    "lacking",
    "obtain",
    "prerequisites",
    "with_modules",
]
