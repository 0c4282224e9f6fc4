# SPDX-License-Identifier: GPL-2.0-only
"""Where a kernel comes from, its build, its features, its modules."""

from harness.host.packages import Prerequisite, prerequisites
from harness.kernel.features import lacking
from harness.kernel.model import DmabufUapi, Flavour, Kernel, KernelSpec, RxeSupport
from harness.kernel.obtain import build_module, obtain, with_modules
from harness.kernel.source.change import SourceChange, SourceChanges
from harness.kernel.source.series import Series

__all__ = [
    "DmabufUapi",
    "Flavour",
    "Kernel",
    "KernelSpec",
    "Prerequisite",
    "RxeSupport",
    "Series",
    "SourceChange",
    "SourceChanges",
    "build_module",
    "lacking",
    "obtain",
    "prerequisites",
    "with_modules",
]
