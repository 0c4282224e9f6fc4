# SPDX-License-Identifier: GPL-2.0-only
"""Config space through vfio's config region, which drivers/vfio/pci/vfio_pci_config.c virtualises."""

import struct
from collections.abc import Callable

# include/uapi/linux/pci_regs.h
COMMAND = 0x04
COMMAND_MEMORY = 0x2
COMMAND_MASTER = 0x4
CAPABILITY_LIST = 0x34
PCI_CFG_SPACE_SIZE = 256
CAP_PM = 0x01
CAP_EXP = 0x10
CAP_AF = 0x13
PM_CTRL = 4
PM_CTRL_STATE = 0x3
EXP_DEVCTL = 8
EXP_DEVCTL_FLR = 0x8000
AF_CTRL = 4
AF_CTRL_FLR = 0x1

Read = Callable[[int, int], bytes]
Write = Callable[[int, bytes], object]


class ConfigSpace:
    """Accesses by name, made with ``read(offset, length)`` and ``write(offset, data)``. Offsets are in bytes."""

    def __init__(self, read: Read, write: Write) -> None:
        self.read = read
        self.write = write

    def word(self, offset: int) -> int:
        """Read 16 bits."""
        return int(struct.unpack("<H", self.read(offset, 2))[0])

    def set_word(self, offset: int, clear: int, value: int) -> None:
        """Clear the bits ``clear`` and set ``value``, in one 16-bit write."""
        self.write(offset, struct.pack("<H", self.word(offset) & ~clear | value))

    def capability(self, number: int) -> int | None:
        """Return the offset of the capability; None if the device does not have it."""
        offset, budget = self.read(CAPABILITY_LIST, 1)[0], 48  # a broken device's list may loop
        while offset and budget:
            found, following = self.read(offset, 2)
            if found == number:
                return offset
            offset, budget = following, budget - 1
        return None

    def need(self, number: int) -> int:
        """Return the offset of the capability; LookupError if the device does not have it."""
        offset = self.capability(number)
        if offset is None:
            raise LookupError(f"the device has no PCI capability {number:#x}")
        return offset

    def extended_capability(self, number: int) -> int:
        """Return the offset of an extended capability; LookupError if the device does not have it."""
        at = PCI_CFG_SPACE_SIZE
        while at:
            (header,) = struct.unpack("<I", self.read(at, 4))
            if header & 0xFFFF == number:
                return at
            at = header >> 20
        raise LookupError(f"the device has no extended capability {number:#x}")

    def register(self, name: str) -> int:
        """Return the offset of ``COMMAND``, ``PMCSR`` or ``DEVCTL``."""
        match name:
            case "COMMAND":
                return COMMAND
            case "PMCSR":
                return self.need(CAP_PM) + PM_CTRL
            case "DEVCTL":
                return self.need(CAP_EXP) + EXP_DEVCTL
        raise LookupError(f"no register {name}")

    def modify(self, name: str, before: int, length: int, clear: int, value: int) -> None:
        """Clear and set bits of a 16-bit register, by one write of ``length`` bytes.

        The write begins ``before`` bytes before the register, or behind its start if negative. Its other bytes keep
        their value; bits of the register outside the write are not changed.
        """
        register = self.register(name)
        start = register - before
        data = bytearray(self.read(start, length))
        changed = (self.word(register) & ~clear | value).to_bytes(2, "little")
        for at in (0, 1):
            if 0 <= before + at < length:
                data[before + at] = changed[at]
        self.write(start, bytes(data))

    def set_memory(self, on: bool) -> None:
        """Set or clear COMMAND.MEM."""
        self.set_word(COMMAND, COMMAND_MEMORY, COMMAND_MEMORY if on else 0)

    def set_master(self, on: bool) -> None:
        """Set or clear COMMAND.MASTER, which allows the device's DMA."""
        self.set_word(COMMAND, COMMAND_MASTER, COMMAND_MASTER if on else 0)

    def set_power_state(self, state: int) -> None:
        """Write PMCSR: 0 for D0 to 3 for D3hot."""
        self.set_word(self.need(CAP_PM) + PM_CTRL, PM_CTRL_STATE, state)

    def flr(self) -> None:
        """Reset the function by the Device Control register of the PCI Express capability."""
        self.set_word(self.need(CAP_EXP) + EXP_DEVCTL, 0, EXP_DEVCTL_FLR)

    def af_flr(self) -> None:
        """Reset the function by the Advanced Features capability of conventional PCI."""
        self.write(self.need(CAP_AF) + AF_CTRL, bytes([AF_CTRL_FLR]))

    def af_control(self) -> int:
        """Return AF_CTRL."""
        return self.read(self.need(CAP_AF) + AF_CTRL, 1)[0]
