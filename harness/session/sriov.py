# SPDX-License-Identifier: GPL-2.0-only
"""Handle on the virtual functions of a device (SR-IOV)."""

from typing import cast

from harness.session.handle import Handle

VF_TOKEN = b"vfio-harness-vf!"
"""The PCI VF token, 16 bytes. While a PF is open, its VFs can be opened only with the token of the PF."""


class VirtualFunctions(Handle):
    """Virtual functions. ``close`` disables them, and blocks while one of them is open."""

    def address(self, number: int) -> str:
        """Return the PCI address of the function ``number``, from 0."""
        return cast(str, self._call("address", number=number))
