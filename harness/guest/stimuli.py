# SPDX-License-Identifier: GPL-2.0-only
"""Trigger the events that the host's witnesses must see, through sysfs and MMIO only.

They need a controller that no case has opened since boot. Every function leaves it disabled, and its PCI command
register as it was.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from . import files
from . import nvme_spec as spec
from .kernel import open_file
from .mmio import Mapping
from .pci import DEVICES, unbind
from .poll import Stuck, poll, wait_for

KMSG = "/dev/kmsg"
COMMAND, MEMORY, MASTER = 4, 1 << 1, 1 << 2  # PCI Local Bus Specification, 6.2.2
ENTRIES = 2  # of the admin queues: the smallest
SECONDS = 5.0  # for the controller to become ready, or to fail


def log(text: str) -> None:
    """Write a record to the kernel's log."""
    files.write(KMSG, text)


def ring(bdf: str, writes: Sequence[tuple[int, int, int]], queues: int) -> None:
    """Write ``(offset in BAR0, width in bytes, value)`` each, with the CPU, to a controller with empty admin queues.

    ``queues``: the address of the queues. No write may make the controller use them.
    """
    with _controller(bdf, queues) as registers:
        for offset, width, value in writes:
            registers.store(offset, width, value)


def fetch(bdf: str, queues: int) -> bool:
    """Let a controller fetch a command from address ``queues``. Returns whether the DMA was blocked."""
    with _translated(bdf), _controller(bdf, queues) as registers:
        registers.store(spec.sq_doorbell(0), 4, 1)
        return poll(lambda: bool(registers.load(spec.CSTS, 4) & spec.CSTS_FATAL), SECONDS)


@contextmanager
def _controller(bdf: str, queues: int) -> Iterator[Mapping]:
    """Enable a controller that has no driver, and disable it afterwards."""
    unbind(bdf)
    with _reachable(bdf), _mapped(f"{DEVICES}/{bdf}/resource0") as registers:
        _enable(registers, 0)
        registers.store(spec.AQA, 4, (ENTRIES - 1) << 16 | ENTRIES - 1)
        for register, address in ((spec.ASQ, queues), (spec.ACQ, queues + 0x1000)):
            for at, half in ((register, address & 0xFFFFFFFF), (register + 4, address >> 32)):
                registers.store(at, 4, half)
                if (seen := registers.load(at, 4)) != half:
                    raise Stuck(f"{half:#x} was written to register {at:#x} of {bdf}, which reads {seen:#x}")
        _enable(registers, spec.CC_ENABLE)
        try:
            yield registers
        finally:
            _enable(registers, 0)


@contextmanager
def _mapped(resource: str) -> Iterator[Mapping]:
    fd = open_file(resource)
    try:
        with closing(Mapping(fd, 0, spec.REGISTERS)) as mapping:
            yield mapping
    finally:
        os.close(fd)


def _enable(registers: Mapping, enable: int) -> None:
    """Set CC.EN and wait for CSTS.RDY to follow."""
    registers.store(spec.CC, 4, spec.CC_ENTRY_SIZES | enable if enable else 0)
    wait_for(lambda: registers.load(spec.CSTS, 4) & spec.CSTS_READY == enable, SECONDS, "NVMe CSTS.RDY")


@contextmanager
def _reachable(bdf: str) -> Iterator[None]:
    """Let the device decode memory accesses and master the bus."""
    fd = open_file(f"{DEVICES}/{bdf}/config")
    try:
        before = os.pread(fd, 2, COMMAND)
        os.pwrite(fd, struct.pack("<H", struct.unpack("<H", before)[0] | MEMORY | MASTER), COMMAND)
        try:
            yield
        finally:
            os.pwrite(fd, before, COMMAND)
    finally:
        os.close(fd)


@contextmanager
def _translated(bdf: str) -> Iterator[None]:
    """Make the IOMMU translate for a device that the kernel passes through (iommu=pt)."""
    kind = f"{DEVICES}/{bdf}/iommu_group/type"  # drivers/iommu/iommu.c, iommu_group_store_type
    if files.read_text(kind).strip() != "identity":
        yield
        return
    files.write(kind, "DMA")
    try:
        yield
    finally:
        files.write(kind, "identity")
