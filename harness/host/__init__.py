# SPDX-License-Identifier: GPL-2.0-only
"""The host: processes, files and packages."""
