# SPDX-License-Identifier: GPL-2.0-only
"""What the PCI core and an administrator do to a device beside vfio: resets, power, errors, ACS."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from harness.session.session import Session

# Deadlines, for a slowdown of 1.
RECOVERY_SECONDS = 10.0
SUSPEND_SECONDS = 2.0


@contextmanager
def acs(session: Session, port_id: str, redirects: int) -> Iterator[None]:
    """Set the redirects in a port's ACS control register (PCI_ACS_CTRL) in the block, and restore it then.

    ``redirects``: PCI_ACS_RR, _CR and _EC, or 0. AgentError if the port keeps other redirects.
    """
    before = session.agent.call("pci", "set_acs_redirects", bdf=session.bdf(port_id), redirects=redirects)
    try:
        yield
    finally:
        session.agent.call("pci", "set_acs_redirects", bdf=session.bdf(port_id), redirects=before)


@contextmanager
def without_reset_methods(session: Session, device_id: str) -> Iterator[None]:
    """Forbid, within the block, each way to reset a device, as an administrator can (sysfs ``reset_method``)."""
    with reset_methods(session, device_id, ""):
        yield


@contextmanager
def reset_methods(session: Session, device_id: str, methods: str) -> Iterator[None]:
    """Allow, within the block, only these ways to reset a device: ``flr``, ``bus``..., separated by blanks."""
    session.agent.call("pci", "set_reset_methods", bdf=session.bdf(device_id), methods=methods)
    try:
        yield
    finally:
        session.agent.call("pci", "set_reset_methods", bdf=session.bdf(device_id), methods="default")


def suspended(session: Session, device_id: str) -> bool:
    """Return whether the kernel suspends an idle device within ``SUSPEND_SECONDS``."""
    seconds = SUSPEND_SECONDS * session.machine.slowdown
    return cast(bool, session.agent.call("pci", "suspended", bdf=session.bdf(device_id), seconds=seconds))


def power_state(session: Session, device_id: str) -> str:
    """Return a device's power state as the kernel knows it: ``D0``, ``D3hot``... Does not wake the device."""
    return cast(str, session.agent.call("pci", "power_state", bdf=session.bdf(device_id)))


def sysfs_reset(session: Session, device_id: str) -> None:
    """Reset a device by its ``reset`` file in sysfs, while another process may hold it open."""
    session.agent.call("pci", "reset", bdf=session.bdf(device_id))


def has_native_aer(session: Session, port_id: str) -> bool:
    """Return whether the kernel, not the firmware, handles PCIe errors of a root port."""
    return cast(bool, session.agent.call("pci", "has_aer_service", bdf=session.bdf(port_id)))


def recover_from_error(session: Session, port_id: str) -> None:
    """Inject a fatal error at a root port, and wait until the kernel has reset the devices below and recovered."""
    console = session.machine.console
    mark = console.mark()
    session.machine.qmp.monitor(f"pcie_aer_inject_error {port_id} DLP")
    console.wait_for(b"device recovery successful", timeout=RECOVERY_SECONDS * session.machine.slowdown, since=mark)
