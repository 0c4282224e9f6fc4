# SPDX-License-Identifier: GPL-2.0-only
"""PCI devices through sysfs (drivers/pci/pci-sysfs.c, drivers/base/bus.c)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from . import files
from .config_space import COMMAND, ConfigSpace
from .kernel import named
from .poll import poll, wait_for
from .resource import Resource

DEVICES = "/sys/bus/pci/devices"
VFIO_PCI = "vfio-pci"
# include/uapi/linux/pci_regs.h
PCI_BASE_ADDRESS_0 = 0x10
BARS = 24  # bytes
PCI_EXT_CAP_ID_ACS = 0x0D
PCI_ACS_CTRL = 6
ACS_REDIRECTS = 0x04 | 0x08 | 0x20  # PCI_ACS_RR, PCI_ACS_CR, PCI_ACS_EC


def _write(path: str, text: str) -> None:
    with named(f"write {path}"):
        files.write(path, text)


def driver(bdf: str) -> str | None:
    """Return the name of the device's driver; None without one."""
    link = f"{DEVICES}/{bdf}/driver"
    return files.target(link) if files.exists(link) else None


def unbind(bdf: str) -> None:
    """Unbind the device from its driver, if it has one. Blocks as long as the driver does."""
    if driver(bdf):
        _write(f"{DEVICES}/{bdf}/driver/unbind", bdf)


def bind(bdf: str, name: str = VFIO_PCI) -> None:
    """Bind the device to the driver ``name`` by driver_override. Does nothing if it is bound to it."""
    if driver(bdf) == name:
        return
    unbind(bdf)
    _write(f"{DEVICES}/{bdf}/driver_override", name)
    _write("/sys/bus/pci/drivers_probe", bdf)
    if driver(bdf) != name:
        raise OSError(19, "No such device", f"bind {bdf} to {name}")  # drivers_probe drops the driver's errno


class VirtualFunctions(Resource):
    """``count`` virtual functions of the physical function at ``bdf``, whose driver must allow them."""

    def __init__(self, bdf: str, count: int) -> None:
        super().__init__()
        self._file = f"{DEVICES}/{bdf}/sriov_numvfs"
        self._bdf = bdf
        _write(self._file, str(count))
        self._undo.callback(_write, self._file, "0")

    def address(self, number: int) -> str:
        """Return the PCI address of one of them."""
        return files.target(f"{DEVICES}/{self._bdf}/virtfn{number}")


def translated(bdf: str) -> bool:
    """Return whether an IOMMU translates the driver's DMA addresses. False without an IOMMU, or with iommu=pt."""
    kind = f"{DEVICES}/{bdf}/iommu_group/type"
    return files.exists(kind) and files.read_text(kind).startswith("DMA")


def reset(bdf: str) -> None:
    """Reset the device by its ``reset`` file."""
    _write(f"{DEVICES}/{bdf}/reset", "1")


def set_reset_methods(bdf: str, methods: str) -> None:
    """Choose the methods that reset the device: ``flr``, ``bus``...; ``default`` for all that work, "" for none."""
    _write(f"{DEVICES}/{bdf}/reset_method", methods + "\n")


def suspended(bdf: str, seconds: float) -> bool:
    """Return whether runtime power management suspends the device within ``seconds``."""
    status = f"{DEVICES}/{bdf}/power/runtime_status"
    return poll(lambda: files.read_text(status).strip() == "suspended", seconds)


def power_state(bdf: str) -> str:
    """Return the power state as the kernel knows it: D0, D3hot..."""
    return files.read_text(f"{DEVICES}/{bdf}/power_state").strip()


def has_aer_service(bdf: str) -> bool:
    """Return whether the kernel, not the firmware, handles Advanced Error Reporting of a port."""
    return files.exists(f"/sys/bus/pci_express/devices/{bdf}:pcie002")


def wait_present(bdf: str, seconds: float) -> None:
    """Wait until the kernel has added the device and lets drivers bind. Raises Stuck after ``seconds``.

    sysfs shows the device earlier. pci_bus_add_device (drivers/pci/bus.c) enables runtime PM just before it allows
    drivers, so this waits for runtime PM.
    """
    status = f"{DEVICES}/{bdf}/power/runtime_status"
    what = f"{bdf} ready for drivers"
    wait_for(lambda: files.exists(status) and files.read_text(status).strip() != "unsupported", seconds, what)


def hardware_register(bdf: str, name: str) -> int:
    """Return a 16-bit register of the device itself, which vfio may show otherwise. ``name``: ``COMMAND``..."""
    with config_space(bdf) as space:
        return space.word(space.register(name))


def lose_config(bdf: str, *, command: bool, bars: bool) -> bytes:
    """Clear ``command`` and ``bars`` in the device itself, as a reset that no driver notices does.

    Returns the BARs before.
    """
    with config_space(bdf) as space:
        before = space.read(PCI_BASE_ADDRESS_0, BARS)
        if command:
            space.write(COMMAND, bytes(2))
        if bars:
            space.write(PCI_BASE_ADDRESS_0, bytes(BARS))
    return before


def hardware_bars(bdf: str) -> bytes:
    """Return the BARs of the device itself."""
    with config_space(bdf) as space:
        return space.read(PCI_BASE_ADDRESS_0, BARS)


@contextmanager
def config_space(bdf: str) -> Iterator[ConfigSpace]:
    """Open config space of the device itself, behind its driver's back."""
    fd = os.open(f"{DEVICES}/{bdf}/config", os.O_RDWR | os.O_CLOEXEC)
    try:
        yield ConfigSpace(
            lambda offset, length: os.pread(fd, length, offset), lambda offset, data: os.pwrite(fd, data, offset)
        )
    finally:
        os.close(fd)


def set_acs_redirects(bdf: str, redirects: int) -> int:
    """Set the redirects (PCI_ACS_RR, _CR, _EC) in a port's ACS control register. Returns those it had.

    Raises LookupError if the port has no ACS, ValueError if it does not take these redirects.
    """
    with config_space(bdf) as space:
        control = space.extended_capability(PCI_EXT_CAP_ID_ACS) + PCI_ACS_CTRL
        before = space.word(control)
        space.set_word(control, ACS_REDIRECTS, redirects)
        after = space.word(control) & ACS_REDIRECTS
    if after != redirects:
        raise ValueError(f"{bdf} has the ACS redirects {after:#x}, not {redirects:#x}")
    return before & ACS_REDIRECTS
