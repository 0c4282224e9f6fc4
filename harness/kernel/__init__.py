# SPDX-License-Identifier: GPL-2.0-only
"""Where a kernel comes from, its build, its features, its modules."""

from harness.kernel.change import Change, Changes
from harness.kernel.features import lacking
from harness.kernel.model import DmabufUapi, Flavour, Kernel, KernelSpec, RxeSupport
from harness.kernel.prerequisites import Prerequisite, prerequisites
from harness.kernel.ready import build_module, obtain, with_modules
from harness.kernel.series import Series

__all__ = [
    "Change",
    "Changes",
    "DmabufUapi",
    "Flavour",
    "Kernel",
    "KernelSpec",
    "Prerequisite",
    "RxeSupport",
    "Series",
    "build_module",
    "lacking",
    "obtain",
    "prerequisites",
    "with_modules",
]
