# SPDX-License-Identifier: GPL-2.0-only
"""Plugs devices of a running machine out and in, and ends the connection of vfio-user devices."""

from collections.abc import Callable

from harness.session.client import Agent, Pending
from harness.session.vfio_user import VfioUserDevice
from harness.vm import Machine

PLUG_SECONDS = 15.0
"""Deadline, for a slowdown of 1."""


class Hotplug:
    """The devices of a machine that a case has unplugged. ``vfio_user`` returns the host's side of such a device."""

    def __init__(self, machine: Machine, agent: Agent, vfio_user: Callable[[str], VfioUserDevice]) -> None:
        self._machine = machine
        self._agent = agent
        self._vfio_user = vfio_user
        self._unplugged: dict[str, int] = {}
        self.disconnected: set[str] = set()
        """The devices without a connection to QEMU."""

    def unplug(self, device_id: str) -> None:
        """Hot-unplug a device by QMP, and wait until the guest has released it.

        GuestHung after ``PLUG_SECONDS``. ``Session.reset`` plugs the device in again.
        """
        self._unplugged[device_id] = mark = self._machine.unplug(device_id)
        self._machine.wait_unplugged(device_id, mark, PLUG_SECONDS)

    def start_unplug(self, device_id: str) -> Pending[None]:
        """Start ``unplug``, which asks QEMU, not the guest's agent."""
        return Pending(self._machine, lambda: self.unplug(device_id), calls_guest=False)

    def plug(self, device_id: str) -> None:
        """Plug a device in again, and wait until the kernel has added it."""
        self._machine.plug(device_id)
        seconds = PLUG_SECONDS * self._machine.slowdown
        self._agent.call("pci", "wait_present", bdf=self._machine.pci_address(device_id), seconds=seconds)
        del self._unplugged[device_id]
        self.disconnected.discard(device_id)

    def disconnect(self, device_id: str) -> None:
        """End the connection of a vfio-user device to QEMU, as if its process had ended. ``plug`` makes a new one."""
        self.disconnected.add(device_id)
        self._vfio_user(device_id).disconnect()

    def restore(self, release: Callable[[str], None]) -> None:
        """Plug in each device that is unplugged. ``release`` is called with its id first."""
        for device_id, mark in list(self._unplugged.items()):
            release(device_id)
            self._machine.wait_unplugged(device_id, mark, PLUG_SECONDS)
            self.plug(device_id)
