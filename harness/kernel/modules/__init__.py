# SPDX-License-Identifier: GPL-2.0-only
"""Build the harness's modules against a kernel, and pack the modules image."""
