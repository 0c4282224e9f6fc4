# SPDX-License-Identifier: GPL-2.0-only
"""PCI devices of our own: Python models behind QEMU's vfio-user-pci, in a process that logs what they see.

``docs/device.md`` shows how to write one. The process starts anew for each machine, so it imports the standard library
only.
"""
