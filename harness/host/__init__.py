# SPDX-License-Identifier: GPL-2.0-only
"""Programs, files and packages of the host."""
