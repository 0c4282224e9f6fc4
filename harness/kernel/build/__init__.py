# SPDX-License-Identifier: GPL-2.0-only
"""Configure and build a kernel's source, and detect its features."""
