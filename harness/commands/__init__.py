# SPDX-License-Identifier: GPL-2.0-only
"""The subcommands of ``vfio-harness``, one file each."""
