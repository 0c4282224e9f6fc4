# SPDX-License-Identifier: GPL-2.0-only
"""A night: many kernels on many machines, and what has changed since the night before."""
