# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's uAPI as tables: one module a header, the kernel's names, nothing else."""
