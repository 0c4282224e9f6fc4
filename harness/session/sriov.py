# SPDX-License-Identifier: GPL-2.0-only
"""Virtual functions of a device (SR-IOV), and a physical function that is open beside them."""

from typing import cast

from harness.session.device import Device
from harness.session.handle import Handle
from harness.session.nvme import Nvme, start_nvme
from harness.session.session import Session

VF_TOKEN = b"vfio-harness-vf!"
"""The PCI VF token, 16 bytes. While a PF is open, its VFs can be opened only with the token of the PF."""


class VirtualFunctions(Handle):
    """Virtual functions. ``close`` disables them, and blocks while one of them is open."""

    def __init__(self, session: Session, device_id: str, count: int) -> None:
        """Enable ``count`` virtual functions of a device, through sysfs."""
        ref = session.agent.call("pci", "VirtualFunctions", bdf=session.bdf(device_id), count=count)
        super().__init__(session.agent, ref)

    def address(self, number: int) -> str:
        """Return the PCI address of the function ``number``, from 0."""
        return cast(str, self._call("address", number=number))


def open_pf(session: Session, device_id: str) -> Nvme:
    """Open and start a controller whose virtual functions may be opened too. Needs vfio-pci's enable_sriov."""
    session.release_device(device_id)
    session.bind(device_id)
    return _open_with_token(session, session.bdf(device_id))


def open_vf(session: Session, functions: VirtualFunctions, number: int) -> Nvme:
    """Open and start the controller of a virtual function, which is online. vfio-pci has bound it."""
    return _open_with_token(session, functions.address(number))


def _open_with_token(session: Session, bdf: str) -> Nvme:
    space = session.ioas()
    ref = session.agent.call("vfio", "open_cdev", bdf=bdf, iommufd=space.iommufd, space=space, token=VF_TOKEN)
    return start_nvme(session.agent, Device(session.agent, ref, bdf, session.export_uapi))
