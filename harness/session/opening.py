# SPDX-License-Identifier: GPL-2.0-only
"""Opens devices through vfio: by a group and a container, by a cdev, or by a group in an iommufd."""

from harness.config import Interface
from harness.session.client import Agent, Caller
from harness.session.device import Device
from harness.session.export import ExportUapi
from harness.session.ioas import Ioas
from harness.session.wire import Ref
from harness.vm import Machine


class DeviceOpener:
    """Opens the devices of a machine. ``export_uapi``: the kernel's."""

    def __init__(self, machine: Machine, agent: Agent, export_uapi: ExportUapi) -> None:
        self._machine = machine
        self._agent = agent
        self._export_uapi = export_uapi
        self._spaces: dict[Ref, tuple[Ref, Ref]] = {}

    def bind(self, device_id: str, driver: str = "vfio-pci") -> None:
        """Bind a device to a driver in the guest."""
        self._agent.call("pci", "bind", bdf=self._machine.pci_address(device_id), name=driver)

    def open(
        self,
        device_id: str,
        via: Interface,
        caller: Caller,
        *,
        same_ioas_as: Device | None = None,
        ioas: Ioas | None = None,
    ) -> tuple[Device, list[Ref]]:
        """Open a device. Returns it and its objects behind ``caller`` in the order of their creation."""
        config, bdf = self._machine.config, self._machine.pci_address(device_id)
        for each in (device_id, *(other.id for other in config.with_role("companion"))):
            self.bind(each)
        if via == "group":
            if config.iommu_type:
                container = caller.call("container", "Container", bdf=bdf)
            else:
                container = caller.call("noiommu", "NoIommu", bdf=bdf)
            ref = caller.call("vfio", "open_group", bdf=bdf, container=container)
            return Device(caller, ref, bdf, self._export_uapi), [container, ref]
        if same_ioas_as:
            iommufd, space = self._spaces[same_ioas_as.ref]
        elif ioas:
            iommufd, space = ioas.iommufd, ioas.ref
        else:
            iommufd = caller.call("iommufd", "Iommufd")
            if via == "iommufd-group":
                space = caller.call("container", "GroupIoas", iommufd=iommufd, bdf=bdf)
            else:
                space = caller.call(iommufd, "ioas")
        if via == "iommufd-group":
            ref = caller.call("vfio", "open_group", bdf=bdf, container=space)
        else:
            ref = caller.call("vfio", "open_cdev", bdf=bdf, iommufd=iommufd, space=space)
        if caller is self._agent:
            self._spaces[ref] = iommufd, space
        return Device(caller, ref, bdf, self._export_uapi), [iommufd, space, ref]

    def ioas_of(self, device: Device) -> Ioas:
        """Return the IO address space of an open device of the agent."""
        return Ioas(self._agent, *self._spaces[device.ref])
