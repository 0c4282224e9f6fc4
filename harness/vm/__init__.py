# SPDX-License-Identifier: GPL-2.0-only
"""QEMU command line, process, QMP, console, SSH: a Machine as a context manager."""
