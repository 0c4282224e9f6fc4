# SPDX-License-Identifier: GPL-2.0-only
"""Where a kernel's source comes from, and changes to it."""
