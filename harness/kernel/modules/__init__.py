# SPDX-License-Identifier: GPL-2.0-only
"""Modules for a built kernel."""
