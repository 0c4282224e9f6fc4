# SPDX-License-Identifier: GPL-2.0-only
"""Read an SMMUv3's page tables from the guest's memory, by QMP: what each device may reach, and as which memory type.

The host follows the tables as the hardware does: stream table, context descriptor, stage 1. Nothing in the guest takes
part, so the guest's kernel may be wrong about them. Formats: Arm IHI 0070 (SMMUv3), 5.2, 5.4 and 6.3; Arm DDI 0487
(VMSAv8-64), D8.3.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import BlindWitness
from harness.witness.iommu_maps import IommuMap
from harness.witness.machine import Machine

SMMU = "smmuv3"
"""The type of the IOMMU, as QEMU's machine ``virt`` names it."""
BASE = 0x0905_0000
"""Where the machine ``virt`` has its SMMU (QEMU hw/arm/virt.c, VIRT_SMMU)."""
STRTAB_BASE, STRTAB_BASE_CFG = 0x80, 0x88
STE_BYTES = CD_BYTES = 64
PAGE = 4096
POINTER = (1 << 52) - 1
TWO_LEVEL = 1
"""STRTAB_BASE_CFG.FMT, of a stream table with two levels."""
CONFIG_ABORT, CONFIG_BYPASS, CONFIG_STAGE_1 = 0, 4, 5
"""STE.Config."""
CD_TABLE_64K = 2
"""STE.S1Fmt, of a table of context descriptors with two levels."""
VALID, TABLE = 1, 2
READ_ONLY, DIRTY_MODIFIER = 1 << 7, 1 << 51
LEAF_LEVEL = 3
ADDRESS = 0x0000_FFFF_FFFF_F000
TYPES = {0x00: "Device-nGnRnE", 0x04: "Device-nGnRE", 0x08: "Device-nGRE", 0x0C: "Device-GRE", 0x44: "Normal-NC"}
"""Memory types by their byte in MAIR; other bytes are Normal memory that may be cached."""


@dataclass(frozen=True)
class Leaf:
    """A leaf entry of a page table: it maps ``size`` bytes at ``iova`` to the physical address ``address``."""

    asid: int
    """The number that the kernel gave the domain."""
    iova: int
    address: int
    size: int
    writeable: bool
    attributes: int
    """The byte of MAIR that holds for it."""

    @property
    def memory_type(self) -> str:
        """Name the memory type as the architecture does."""
        return TYPES.get(self.attributes, f"Normal memory, {self.attributes:#x}")

    @property
    def is_device(self) -> bool:
        """Whether it is a type of Device memory."""
        return self.attributes & 0xF0 == 0


@dataclass(frozen=True)
class _Table:
    """Stage 1 of one domain."""

    asid: int
    root: int
    bits: int
    """The bits of an address that it translates."""
    mair: int

    def attributes(self, entry: int) -> int:
        return self.mair >> 8 * (entry >> 2 & 7) & 0xFF


class Memory:
    """The guest's physical memory and registers, read by QMP."""

    def __init__(self, machine: Machine) -> None:
        self._qmp = machine.qmp
        self._file: Path = machine.trace_path.with_name("memory")

    def read(self, address: int, size: int) -> bytes:
        """Read ``size`` bytes at a physical address."""
        self._qmp.execute("pmemsave", {"val": address, "size": size, "filename": str(self._file)})
        return self._file.read_bytes()

    def word(self, address: int) -> int:
        """Read 8 bytes."""
        return int.from_bytes(self.read(address, 8), "little")

    def words(self, address: int, count: int) -> tuple[int, ...]:
        """Read ``count`` times 8 bytes."""
        return struct.unpack(f"<{count}Q", self.read(address, 8 * count))


class SmmuTables:
    """The page tables that a machine's SMMU uses now."""

    def __init__(self, machine: Machine) -> None:
        self._memory = Memory(machine)

    def leaves(self, requester: int | None = None) -> list[Leaf]:
        """List the leaf entries of a device's domain, by IOVA; of every device's domain without ``requester``.

        ``requester``: a PCI requester id. Raises BlindWitness for a device whose table this reader does not know.
        """
        entries = [self._stream(requester)] if requester is not None else self._streams()
        tables = {table.asid: table for entry in entries if (table := self._table(entry))}
        return [leaf for table in tables.values() for leaf in self._walk(table, table.root, _start(table), 0)]

    def maps(self, phys: int, length: int) -> list[IommuMap]:
        """Return what maps any of these physical addresses, in the domains of all devices.

        Raises BlindWitness if the tables are empty: a case maps its queues before it asks about a buffer.
        """
        found = self.leaves()
        if not found:
            raise BlindWitness("blind witness, SMMU page tables: no device's table has an entry")
        return [
            IommuMap(leaf.asid, leaf.iova, leaf.address, leaf.size, leaf.is_device, leaf.memory_type)
            for leaf in found
            if leaf.address < phys + length and phys < leaf.address + leaf.size
        ]

    def _geometry(self) -> tuple[int, int, int]:
        """Return the stream table's address, log2 of its entries, and its split; no split with one level."""
        base = self._memory.word(BASE + STRTAB_BASE) & POINTER & -64
        config = int.from_bytes(self._memory.read(BASE + STRTAB_BASE_CFG, 4), "little")
        two_level = config >> 16 & 3 == TWO_LEVEL
        return base, config & 0x3F, config >> 6 & 0x1F if two_level else 0

    def _stream(self, stream: int) -> bytes:
        """Return the stream table's entry of one device; zeros if the table has none."""
        base, _, split = self._geometry()
        if split:
            second = self._second(base, stream >> split)
            if second is None:
                return bytes(STE_BYTES)
            base, stream = second[0], stream & (1 << split) - 1
        return self._memory.read(base + stream * STE_BYTES, STE_BYTES)

    def _streams(self) -> Iterator[bytes]:
        """Yield every entry of the stream table."""
        base, size, split = self._geometry()
        if not split:
            yield from self._entries(base, 1 << size)
            return
        for index, descriptor in enumerate(self._memory.words(base, 1 << max(0, size - split))):
            if descriptor & 0x1F and (second := self._second(base, index)):
                yield from self._entries(*second)

    def _second(self, base: int, index: int) -> tuple[int, int] | None:
        """Return a second level's address and the number of its entries; None if there is none."""
        descriptor = self._memory.word(base + 8 * index)
        span = descriptor & 0x1F
        return (descriptor & POINTER & -64, 1 << span - 1) if span else None

    def _entries(self, address: int, count: int) -> Iterator[bytes]:
        raw = self._memory.read(address, count * STE_BYTES)
        yield from (raw[at : at + STE_BYTES] for at in range(0, len(raw), STE_BYTES))

    def _table(self, entry: bytes) -> _Table | None:
        """Return stage 1 of a stream table's entry; None if nothing translates for the device."""
        (first,) = struct.unpack_from("<Q", entry)
        config = first >> 1 & 7
        if not first & VALID or config in (CONFIG_ABORT, CONFIG_BYPASS):
            return None
        if config != CONFIG_STAGE_1:
            raise BlindWitness(f"blind witness, SMMU page tables: an STE has Config {config}; only stage 1 can be read")
        context = first & POINTER & -64
        if first >> 59 and first >> 4 & 3 == CD_TABLE_64K:
            context = self._memory.word(context) & POINTER & -PAGE
        control, root, _, mair = struct.unpack_from("<4Q", self._memory.read(context, CD_BYTES))
        if control >> 6 & 3:
            raise BlindWitness("blind witness, SMMU page tables: a granule other than 4 KiB")
        return _Table(control >> 48, root & POINTER & -16, 64 - (control & 0x3F), mair)

    def _walk(self, table: _Table, address: int, level: int, iova: int) -> Iterator[Leaf]:
        shift = 12 + 9 * (LEAF_LEVEL - level)
        count = 1 << min(9, table.bits - shift)
        for index, entry in enumerate(self._memory.words(address, count)):
            if not entry & VALID:
                continue
            at = iova + (index << shift)
            if entry & TABLE and level < LEAF_LEVEL:
                yield from self._walk(table, entry & ADDRESS, level + 1, at)
            elif entry & TABLE or level < LEAF_LEVEL:
                writeable = not entry & READ_ONLY or bool(entry & DIRTY_MODIFIER)
                target = entry & ADDRESS & -1 << shift
                yield Leaf(table.asid, at, target, 1 << shift, writeable, table.attributes(entry))


def _start(table: _Table) -> int:
    """Return the level at which a walk starts."""
    return LEAF_LEVEL + 1 - -(-(table.bits - 12) // 9)
