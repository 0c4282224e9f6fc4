# SPDX-License-Identifier: GPL-2.0-only
"""Page tables of an SMMUv3, read from a memory that the test writes."""

import struct
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.errors import BlindWitness
from harness.witness.machine import Machine
from harness.witness.smmu_tables import BASE, STRTAB_BASE, STRTAB_BASE_CFG, Leaf, SmmuTables

STREAMS, SECOND, CONTEXT, ROOT = 0x4000_0000, 0x4001_0000, 0x4002_0000, 0x4003_0000
LEVELS = (ROOT, 0x4004_0000, 0x4005_0000, 0x4006_0000)
NVME, EDU = 0x0100, 0x0300
"""Requester ids."""
MAIR = 0xF404_FF44
"""Of drivers/iommu/io-pgtable-arm.c: 0 is Normal-NC, 1 is cached, 2 is Device-nGnRE."""
BAR, IOVA = 0x1000_4000, 0x0020_0000
PAGE_ENTRY, BLOCK, NEXT = 3, 1, 3
READ_ONLY = 1 << 7


class Memory:
    """A guest's physical memory, which QEMU writes into a file."""

    def __init__(self) -> None:
        self.words: dict[int, int] = {}
        self.put(BASE + STRTAB_BASE, 1 << 62 | STREAMS)
        self.put(BASE + STRTAB_BASE_CFG, 1 << 16 | 8 << 6 | 16)

    def put(self, address: int, *words: int) -> None:
        for index, word in enumerate(words):
            self.words[address + 8 * index] = word

    def execute(self, command: str, arguments: Mapping[str, Any], *, timeout: float = 1.0) -> None:
        assert command == "pmemsave"
        start, size = arguments["val"], arguments["size"]
        content = b"".join(struct.pack("<Q", self.words.get(at, 0)) for at in range(start, start + size, 8))
        Path(arguments["filename"]).write_bytes(content[:size])

    def stream(self, requester: int, *entry: int) -> None:
        """Write a stream table's entry."""
        self.put(STREAMS + 8 * (requester >> 8), SECOND + (requester >> 8) * 0x4000 | 9)
        self.put(SECOND + (requester >> 8) * 0x4000 + 64 * (requester & 0xFF), *entry)

    def translate(self, requester: int, context: int = CONTEXT, asid: int = 7, root: int = ROOT) -> None:
        """Let the SMMU translate by the page table at ``root``, in 48 bits and pages of 4 KiB."""
        self.stream(requester, context | 5 << 1 | 1)
        self.put(context, asid << 48 | 1 << 31 | 16, root, 0, MAIR)

    def map_page(self, attribute: int, flags: int = 0) -> None:
        """Map the page at IOVA to the BAR."""
        for level, table in enumerate(LEVELS[:-1]):
            self.put(table + 8 * (IOVA >> 39 - 9 * level & 0x1FF), LEVELS[level + 1] | NEXT)
        self.put(LEVELS[3] + 8 * (IOVA >> 12 & 0x1FF), BAR | attribute << 2 | flags | PAGE_ENTRY)


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def tables(memory: Memory, tmp_path: Path) -> SmmuTables:
    return SmmuTables(cast(Machine, SimpleNamespace(qmp=memory, trace_path=tmp_path / "trace")))


@pytest.mark.parametrize(
    ("attribute", "name", "device"),
    [(0, "Normal-NC", False), (1, "Normal memory, 0xff", False), (2, "Device-nGnRE", True)],
)
def test_a_page_has_its_memory_type(
    memory: Memory, tables: SmmuTables, attribute: int, name: str, device: bool
) -> None:
    memory.translate(NVME)
    memory.map_page(attribute)
    (leaf,) = tables.leaves(NVME)
    assert leaf == Leaf(7, IOVA, BAR, 0x1000, True, MAIR >> 8 * attribute & 0xFF)
    assert (leaf.memory_type, leaf.is_device) == (name, device)


def test_a_read_only_page_is_not_writeable(memory: Memory, tables: SmmuTables) -> None:
    memory.translate(NVME)
    memory.map_page(2, READ_ONLY)
    assert [leaf.writeable for leaf in tables.leaves(NVME)] == [False]


def test_a_block_is_as_large_as_its_level(memory: Memory, tables: SmmuTables) -> None:
    memory.translate(NVME)
    memory.map_page(2)
    memory.put(LEVELS[2] + 8 * (IOVA >> 21 & 0x1FF), 0x1020_0000 | 2 << 2 | BLOCK)
    assert tables.leaves(NVME) == [Leaf(7, IOVA, 0x1020_0000, 2 << 20, True, 0x04)]


def test_a_device_without_translation_has_no_entries(memory: Memory, tables: SmmuTables) -> None:
    memory.map_page(2)
    assert tables.leaves(NVME) == []
    for config in (0, 4):  # abort, bypass
        memory.stream(NVME, config << 1 | 1)
        assert tables.leaves(NVME) == []


def test_a_configuration_that_cannot_be_read_blinds_the_witness(memory: Memory, tables: SmmuTables) -> None:
    memory.stream(NVME, 6 << 1 | 1)
    with pytest.raises(BlindWitness, match="only stage 1"):
        tables.leaves(NVME)
    memory.translate(NVME)
    memory.put(CONTEXT, 1 << 31 | 1 << 6 | 16)
    with pytest.raises(BlindWitness, match="granule"):
        tables.leaves(NVME)


def test_a_linear_stream_table_is_read_too(memory: Memory, tables: SmmuTables) -> None:
    memory.put(BASE + STRTAB_BASE_CFG, 10)
    memory.translate(NVME)
    memory.map_page(2)
    memory.put(STREAMS + 64 * NVME, CONTEXT | 5 << 1 | 1)
    assert [leaf.address for leaf in tables.leaves(NVME)] == [BAR]


def test_a_maps_type_is_that_of_each_domain(memory: Memory, tables: SmmuTables) -> None:
    """The second domain maps the BAR as memory, like the bug second-domain-as-memory."""
    memory.translate(NVME)
    memory.map_page(2)
    memory.translate(EDU, CONTEXT + 64, asid=8, root=0x4007_0000)
    memory.put(0x4007_0000, 0x4008_0000 | NEXT)
    memory.put(0x4008_0000, 0x1000_0000 & -1 << 30 | 1 << 2 | BLOCK)
    maps = tables.maps(BAR, 0x1000)
    assert [(each.domain, each.mmio) for each in maps] == [(7, True), (8, False)]
    assert str(maps[1]) == "domain 8: 0x40000000 bytes at 0x0 mapped as memory at 0x0 (Normal memory, 0xff)"
    assert tables.maps(0x2000_0000_0000, 0x1000) == []


def test_empty_tables_blind_the_witness(memory: Memory, tables: SmmuTables) -> None:
    memory.translate(NVME)
    with pytest.raises(BlindWitness, match="no device's table has an entry"):
        tables.maps(BAR, 0x1000)
