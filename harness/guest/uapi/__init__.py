# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's uAPI: one module per header, with the header's names."""
