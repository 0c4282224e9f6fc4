# SPDX-License-Identifier: GPL-2.0-only
"""``python -m harness``: the same as ``vfio-harness``."""

from harness.cli import main

main()
