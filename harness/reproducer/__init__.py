# SPDX-License-Identifier: GPL-2.0-only
"""Reproducers: one C file for a case that fails, which shows the bug as the only program of the guest.

``generate`` makes it of the case's recording (harness/session/recording.py) and of the runtime in
guest-images/reproducer. ``machine`` compiles it, boots it and reads its verdict. docs/reproducer.md explains the file.
"""
