# SPDX-License-Identifier: GPL-2.0-only
"""Where a kernel comes from, its build, its features, its modules."""
