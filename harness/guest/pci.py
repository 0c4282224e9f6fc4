# SPDX-License-Identifier: GPL-2.0-only
"""PCI from outside a driver: sysfs (drivers/pci/pci-sysfs.c, drivers/base/bus.c)."""

import os
from pathlib import Path

from .kernel import named
from .poll import poll, wait_for

DEVICES = Path("/sys/bus/pci/devices")
VFIO_PCI = "vfio-pci"


def _write(path: Path, text: str) -> None:
    with named(f"write {path}"):
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)


def driver(bdf: str) -> str | None:
    """The name of the driver the device is bound to."""
    link = DEVICES / bdf / "driver"
    return link.resolve().name if link.exists() else None


def unbind(bdf: str) -> None:
    """Take the device from its driver, if it has one. Waits for what the driver waits for."""
    if driver(bdf):
        _write(DEVICES / bdf / "driver" / "unbind", bdf)


def bind(bdf: str, name: str = VFIO_PCI) -> None:
    """Bind the device to the driver ``name`` and no other, by driver_override; nothing to do if it is."""
    if driver(bdf) == name:
        return
    unbind(bdf)
    _write(DEVICES / bdf / "driver_override", name)
    _write(Path("/sys/bus/pci/drivers_probe"), bdf)
    if driver(bdf) != name:
        raise OSError(19, "No such device", f"bind {bdf} to {name}")  # drivers_probe hides the driver's errno


def translated(bdf: str) -> bool:
    """Whether an IOMMU translates what the device's driver maps: not without one, nor with iommu=pt."""
    kind = DEVICES / bdf / "iommu_group" / "type"
    return kind.exists() and kind.read_text().startswith("DMA")


def reset(bdf: str) -> None:
    """The function reset that sysfs offers."""
    _write(DEVICES / bdf / "reset", "1")


def suspended(bdf: str, seconds: float) -> bool:
    """Whether runtime power management suspends the device within ``seconds``."""
    status = DEVICES / bdf / "power" / "runtime_status"
    return poll(lambda: status.read_text().strip() == "suspended", seconds)


def power_state(bdf: str) -> str:
    """D0, D3hot..., as the kernel believes."""
    return (DEVICES / bdf / "power_state").read_text().strip()


def has_aer_service(bdf: str) -> bool:
    """Whether the kernel has taken Advanced Error Reporting of a port upon itself."""
    return Path(f"/sys/bus/pci_express/devices/{bdf}:pcie002").exists()


def wait_present(bdf: str, seconds: float) -> None:
    """Wait until the kernel has found the device and lets drivers bind. Stuck after ``seconds``.

    It shows in sysfs before that; pci_bus_add_device (drivers/pci/bus.c) enables runtime PM just before.
    """
    status = DEVICES / bdf / "power" / "runtime_status"
    what = f"a device for drivers at {bdf}"
    wait_for(lambda: status.exists() and status.read_text().strip() != "unsupported", seconds, what)
