# SPDX-License-Identifier: GPL-2.0-only
"""Fetch, patch, configure and build the kernel under test; detect its features; build its modules."""

from harness.kernel.build.features import lacking
from harness.kernel.model import Flavour, Kernel, KernelSpec, RxeSupport, SourceChange, has_gcov
from harness.kernel.obtain import obtain
from harness.kernel.source.change import SourceChanges
from harness.kernel.source.series import Series

__all__ = [
    "Flavour",
    "Kernel",
    "KernelSpec",
    "RxeSupport",
    "Series",
    "SourceChange",
    "SourceChanges",
    "has_gcov",
    "lacking",
    "obtain",
]
