# SPDX-License-Identifier: GPL-2.0-only
"""The PCI config space of a device: identity, BARs, capabilities. It recognises the writes that reset the function.

QEMU shows the guest its own BAR registers and its own MSI-X table; the rest comes from here.
Sources: include/uapi/linux/pci_regs.h; PCI Express Base Specification 5.0, 7.5; ECN Advanced Capabilities for
Conventional PCI.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Reset = Literal["pcie-flr", "af-flr"]
"""A reset that the function offers in config space."""
RESETS: tuple[Reset, ...] = ("pcie-flr", "af-flr")

COMMAND, BARS, CAPABILITIES = 0x04, 0x10, 0x34
COMMAND_MEMORY, COMMAND_MASTER = 0x2, 0x4
STATUS_CAPABILITIES = 0x10
CONVENTIONAL_SIZE, EXPRESS_SIZE = 256, 4096
PM, MSIX, EXPRESS, AF, RESIZABLE = 0x40, 0x50, 0x60, 0xA0, 0x100
"""Where the capabilities are."""
PM_CTRL, EXPRESS_DEVCTL, AF_CTRL = PM + 4, EXPRESS + 8, AF + 4
PM_STATE = 0x3
PM_NO_SOFT_RESET = 0x8
DEVCTL_FLR, AF_CTRL_FLR = 0x8000, 0x1
DEVCAP_FLR, DEVCAP_ROLE_BASED = 1 << 28, 1 << 15
AF_CAP_TP, AF_CAP_FLR = 0x1, 0x2
LINK_2_5_GT_X1 = 0x11
BAR_64 = 0x4
RESIZABLE_ID, LEAST_SIZE_SHIFT = 0x15, 20
"""PCI_EXT_CAP_ID_REBAR, and the sizes that it counts from: 1 MiB."""
MSIX_PBA = 0x800
"""Offset of the pending bits in the BAR of the MSI-X table."""


@dataclass(frozen=True)
class Identity:
    """What the function calls itself."""

    vendor: int
    device: int
    class_code: int
    """24 bits, e.g. 0x010802 for NVMe."""


@dataclass(frozen=True)
class Msix:
    """The MSI-X table: its BAR, and the number of vectors. QEMU emulates it."""

    bar: int
    vectors: int


class ConfigSpace:
    """The registers, with those bits writable that hardware would have so."""

    def __init__(
        self,
        identity: Identity,
        bars: Mapping[int, int],
        *,
        wide: Sequence[int] = (),
        express: bool = True,
        resets: Sequence[Reset] = ("pcie-flr",),
        pm: bool = True,
        msix: Msix | None = None,
        resizable: Sequence[int] = (),
    ) -> None:
        """``bars``: sizes by number. ``wide``: those of 64 bits. ``resizable``: those with a choice of smaller sizes.

        Raises ValueError for what PCI does not allow.
        """
        if "pcie-flr" in resets and not express:
            raise ValueError("pcie-flr is a reset of the PCI Express capability")
        if small := [number for number in resizable if bars.get(number, 0) >> LEAST_SIZE_SHIFT == 0]:
            raise ValueError(f"BAR {small[0]} is smaller than 1 MiB, and cannot be resizable")
        size = EXPRESS_SIZE if express else CONVENTIONAL_SIZE
        self._bytes, self._writable = bytearray(size), bytearray(size)
        self._resets = resets
        self.msix = msix
        struct.pack_into("<HHHH", self._bytes, 0, identity.vendor, identity.device, 0, STATUS_CAPABILITIES)
        struct.pack_into("<I", self._bytes, 8, identity.class_code << 8)
        for number in bars:
            self._bytes[BARS + 4 * number] = BAR_64 if number in wide else 0
        self._allow(COMMAND, 0x0506)
        self._link(express, resets, pm, msix)
        if express:
            self._add_resizable(bars, resizable)
        self._at_reset = bytes(self._bytes)

    def _allow(self, offset: int, bits: int) -> None:
        struct.pack_into("<H", self._writable, offset, bits)

    def _link(self, express: bool, resets: Sequence[Reset], pm: bool, msix: Msix | None) -> None:
        """Write the list of capabilities."""
        found: list[tuple[int, bytes]] = []
        if pm:
            # Version 3; D3hot keeps the state.
            found.append((PM, struct.pack("<BBHHH", 0x01, 0, 0x3, PM_NO_SOFT_RESET, 0)))
            self._allow(PM_CTRL, PM_STATE)
        if msix:
            control = msix.vectors - 1
            found.append((MSIX, struct.pack("<BBHII", 0x11, 0, control, msix.bar, MSIX_PBA | msix.bar)))
            self._allow(MSIX + 2, 0xC000)
        if express:
            devcap = DEVCAP_ROLE_BASED | (DEVCAP_FLR if "pcie-flr" in resets else 0)
            fields = struct.pack("<BBHIHHIHH", 0x10, 0, 0x2, devcap, 0x2810, 0, LINK_2_5_GT_X1, 0, LINK_2_5_GT_X1)
            found.append((EXPRESS, fields + bytes(0x3C - len(fields))))
            self._allow(EXPRESS_DEVCTL, 0x7FFF)
        if "af-flr" in resets:
            found.append((AF, struct.pack("<BBBBBB", 0x13, 0, 6, AF_CAP_TP | AF_CAP_FLR, 0, 0)))
        before = CAPABILITIES
        for at, data in found:
            self._bytes[at : at + len(data)] = data
            self._bytes[before] = at
            before = at + 1

    def _add_resizable(self, bars: Mapping[int, int], resizable: Sequence[int]) -> None:
        """Write the Resizable BAR capability: each BAR has its size, and every smaller one down to 1 MiB."""
        if not resizable:
            return
        struct.pack_into("<I", self._bytes, RESIZABLE, RESIZABLE_ID | 1 << 16)
        for at, number in enumerate(resizable):
            size = bars[number].bit_length() - 1 - LEAST_SIZE_SHIFT
            sizes = ((1 << size + 1) - 1) << 4
            control = number | len(resizable) << 5 | size << 8
            struct.pack_into("<II", self._bytes, RESIZABLE + 4 + 8 * at, sizes, control)

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return len(self._bytes)

    @property
    def memory_on(self) -> bool:
        """COMMAND.MEM."""
        return bool(self._bytes[COMMAND] & COMMAND_MEMORY)

    @property
    def master_on(self) -> bool:
        """COMMAND.MASTER, without which the function does no DMA."""
        return bool(self._bytes[COMMAND] & COMMAND_MASTER)

    def read(self, offset: int, length: int) -> bytes:
        """Read; zero beyond the end."""
        return bytes(self._bytes[offset : offset + length]).ljust(length, b"\0")

    def write(self, offset: int, data: bytes) -> Reset | None:
        """Write. Returns the reset that the write asks for."""
        asked = self._reset_of(offset, data)
        for at, value in enumerate(data, offset):
            if at < self.size:
                bits = self._writable[at]
                self._bytes[at] = self._bytes[at] & ~bits | value & bits
        return asked

    def _reset_of(self, offset: int, data: bytes) -> Reset | None:
        def sets(register: int, bit: int) -> bool:
            at = register - offset
            return 0 <= at < len(data) and bool(data[at] & bit)

        if "pcie-flr" in self._resets and sets(EXPRESS_DEVCTL + 1, DEVCTL_FLR >> 8):
            return "pcie-flr"
        if "af-flr" in self._resets and sets(AF_CTRL, AF_CTRL_FLR):
            return "af-flr"
        return None

    def reset(self) -> None:
        """Give every register its value after a reset."""
        self._bytes[:] = self._at_reset
