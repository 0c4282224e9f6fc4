# SPDX-License-Identifier: GPL-2.0-only
"""Handle on the virtual functions of a device (SR-IOV)."""

from typing import cast

from harness.session.handle import Handle

VF_TOKEN = b"vfio-harness-vf!"
"""The PCI VF token: 16 bytes that whoever opens a VF must share with whoever has its PF open."""


class VirtualFunctions(Handle):
    """Virtual functions. ``close`` disables them, and blocks while one of them is open."""

    def address(self, number: int) -> str:
        """Return the PCI address of the function ``number``, from 0."""
        return cast(str, self._call("address", number=number))
