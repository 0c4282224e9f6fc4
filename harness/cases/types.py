# SPDX-License-Identifier: GPL-2.0-only
"""Types of the fixtures that cases take."""

from collections.abc import Callable, Mapping

from harness.cases.kernel_tests import Program
from harness.session import Attachment

Attach = Callable[..., Attachment]
"""Fixture ``attach``: ``Session.attach`` with a default device."""
Features = Mapping[str, bool]
"""Fixture ``features``: whether the kernel under test has each feature of guest-images/kernel/requirements.yaml."""
BuildKernelTest = Callable[[Program], bytes]
"""Fixture ``build_kernel_test``: builds one of the kernel's own tests, and returns the ELF file."""
