# SPDX-License-Identifier: GPL-2.0-only
"""Resolve KERNEL= to a source, and read the changes of SERIES=."""
