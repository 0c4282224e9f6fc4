# SPDX-License-Identifier: GPL-2.0-only
"""Events that the machine's witnesses must see, for their self-checks."""

from collections.abc import Sequence

from harness.session.session import Session

QUEUES = 320 << 30
"""An address that a fresh machine maps for no device. It is above memory and below the limit of a 39-bit IOMMU."""


class Stimuli:
    """Triggers the events that the witnesses must see, in the guest of a freshly booted session.

    Every method may raise KernelErrno, AgentError, or the error that ended the VM.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._agent = session.agent
        machine = session.machine.config
        found = [device for device, _ in machine.walk() if device.kind == "nvme"]
        own = [device.id for device in found if device.vfio_user]
        self._controllers = [*[device.id for device in found if not device.vfio_user][:1], *own]
        self._own = own
        self.has_controller = bool(self._controllers)
        """Whether the machine has doorbells."""
        self.has_iommu = bool(machine.iommu_type)
        """Whether the machine can refuse a DMA."""

    def requester(self) -> str:
        """Return the PCI address of the controller that ``fetch`` uses."""
        return self.controllers()[0]

    def controllers(self) -> list[str]:
        """Return the PCI addresses of the controllers to ring: one of QEMU's own, and each vfio-user device."""
        return [self._session.bdf(each) for each in self._controllers]

    def ring(self, controller: str, writes: Sequence[tuple[int, int, int]]) -> None:
        """Have the guest's CPU write ``(offset in BAR0, width in bytes, value)`` each to the controller.

        The admin queues have two entries, and are empty.
        """
        self._agent.call("stimuli", "ring", bdf=controller, writes=list(writes), queues=QUEUES)

    def release(self) -> None:
        """Close what is open in the vfio-user controllers, also importers, so that they can be rung again."""
        for each in self._own:
            self._session.release_device(each)

    def fetch(self) -> int | None:
        """Have the controller read from an address that it may not reach. Return the address, or None if it could."""
        refused = self._agent.call("stimuli", "fetch", bdf=self.requester(), queues=QUEUES)
        return QUEUES if refused else None

    def log(self, text: str) -> None:
        """Write a record to the guest kernel's log; ``text`` begins with its level, ``<4>``."""
        self._agent.call("stimuli", "log", text=text)
