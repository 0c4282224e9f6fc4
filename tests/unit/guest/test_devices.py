# SPDX-License-Identifier: GPL-2.0-only
"""The agent's drivers against models of their devices: which registers they write, and how often."""

import struct
from pathlib import Path
from typing import cast

import pytest

from harness.guest import config_space, dmabuf
from harness.guest import nvme_spec as spec
from harness.guest.config_space import ConfigSpace
from harness.guest.edu import BUFFER, BUFFER_SIZE, EduEngine
from harness.guest.iommufd import Ioas
from harness.guest.memory import AddressSpace
from harness.guest.nvme import DEPTH, Controller
from harness.guest.vfio import Device


class Space(Ioas):
    """An address space that records its mappings, without a kernel."""

    def __init__(self) -> None:
        AddressSpace.__init__(self)
        self.mapped: dict[int, int] = {}

    def map_memory(self, address: int, length: int, iova: int) -> None:
        assert length % 4096 == 0
        self.mapped[iova] = length

    def unmap(self, iova: int, length: int) -> int:
        assert self.mapped.pop(iova) == length
        return length


class EduModel:
    """``edu``'s registers. A DMA ends at once and is recorded as (source, target, count, command)."""

    def __init__(self) -> None:
        self.space = Space()
        self.registers = {0x80: 0, 0x88: 0, 0x90: 0}
        self.dmas: list[tuple[int, int, int, int]] = []

    def write(self, bar: int, offset: int, data: bytes) -> None:
        (value,) = struct.unpack("<Q", data)
        if offset == 0x98:
            self.dmas.append((*self.registers.values(), value))
        else:
            self.registers[offset] = value

    def read32(self, bar: int, offset: int) -> int:
        return 0


def test_edu_loads_once_for_a_series_of_rings() -> None:
    model = EduModel()
    engine = EduEngine(cast(Device, model))
    for value in (1, 2, 3):
        engine.dma_write(0x1000, struct.pack("<I", value))
    load, *rings = model.dmas
    assert load[1] == BUFFER
    assert rings == [(BUFFER + 4 * i, 0x1000, 4, 3) for i in range(3)]


def test_edu_never_touches_the_end_of_its_buffer_where_qemu_aborts() -> None:
    model = EduModel()
    engine = EduEngine(cast(Device, model))
    engine.dma_write(0x1000, bytes(range(256)) * 40)
    assert len(engine.dma_read(0x1000, 5000)) == 5000
    for source, target, count, command in model.dmas:
        in_buffer = source if command & 2 else target
        assert in_buffer >= BUFFER
        assert in_buffer + count <= BUFFER + BUFFER_SIZE < BUFFER + 4096
    engine.close()
    assert model.space.mapped == {}


class NvmeModel:
    """A controller that is always ready and completes each command when its doorbell is rung."""

    def __init__(self) -> None:
        self.space = Space()
        self.enabled = False
        self.controller: Controller | None = None
        self.head = 0
        self.posted = 0

    def write32(self, bar: int, offset: int, value: int) -> None:
        if offset == spec.CC:
            self.enabled = bool(value & spec.CC_ENABLE)
            self.head = self.posted = 0
        elif offset == spec.sq_doorbell(0):
            self._run(value)

    def write(self, bar: int, offset: int, data: bytes) -> None:
        assert offset in (spec.ASQ, spec.ACQ)

    def read32(self, bar: int, offset: int) -> int:
        return int(self.enabled) if offset == spec.CSTS else 0

    def _run(self, tail: int) -> None:
        assert self.controller is not None
        memory, queue = self.controller._memory.view, self.controller._queues[0]
        while self.head != tail:
            entry = queue.sq + self.head * spec.SQE_SIZE
            cid = spec.SQE.unpack(memory[entry : entry + spec.SQE_SIZE])[2]
            self.head = (self.head + 1) % DEPTH
            phase = 1 ^ (self.posted // DEPTH & 1)
            at = queue.cq + self.posted % DEPTH * spec.CQE_SIZE
            memory[at : at + spec.CQE_SIZE] = spec.CQE.pack(self.posted, 0, self.head, 0, cid, phase)
            self.posted += 1


def controller() -> tuple[Controller, NvmeModel]:
    model = NvmeModel()
    made = Controller(cast(Device, model))
    model.controller = made
    made.start()
    return made, model


def test_nvme_queues_wrap_and_the_phase_toggles() -> None:
    nvme, _ = controller()
    for number in range(3 * DEPTH + 1):
        queued = nvme.submit_identify()
        assert queued["tail"] == (number + 1) % DEPTH
        assert nvme.completed(0, queued["cid"], 0) is None
        nvme.ring(0, queued["tail"])
        assert nvme.completed(0, queued["cid"], 0) == {"status": 0, "result": number}


def test_nvme_completions_are_matched_by_their_command() -> None:
    nvme, _ = controller()
    first, second = nvme.submit_identify(), nvme.submit_identify()
    nvme.ring(0, second["tail"])
    assert nvme.completed(0, second["cid"], 0) == {"status": 0, "result": 1}
    assert nvme.completed(0, first["cid"], 0) == {"status": 0, "result": 0}


def test_nvme_start_drops_queued_commands() -> None:
    nvme, _ = controller()
    nvme.ring(0, nvme.submit_identify()["tail"])
    nvme.start()
    queued = nvme.submit_identify()
    assert queued["tail"] == 1
    assert nvme.completed(0, queued["cid"], 0) is None


def test_nvme_formats() -> None:
    sqe = spec.transfer(spec.READ, 0x1_0000_0002, 8, (0x1000, 0x2000), spec.USES_SGL).encode(7)
    assert len(sqe) == spec.SQE_SIZE
    assert sqe[:8] == bytes([2, 0x40, 7, 0, 1, 0, 0, 0])
    assert struct.unpack_from("<QQ", sqe, 24) == (0x1000, 0x2000)
    assert struct.unpack_from("<III", sqe, 40) == (2, 1, 7)
    assert spec.sgl_descriptor(0x1003, 5, spec.SGL_LAST_SEGMENT) == struct.pack("<QI", 0x1003, 5) + b"\0\0\0\x30"


def space_of(content: bytearray) -> ConfigSpace:
    def write(offset: int, data: bytes) -> None:
        content[offset : offset + len(data)] = data

    return ConfigSpace(lambda offset, length: bytes(content[offset : offset + length]), write)


def test_config_space_finds_capabilities_and_keeps_other_bits() -> None:
    content = bytearray(256)
    content[0x34] = 0x40
    content[0x40:0x42] = bytes([config_space.CAP_PM, 0x60])
    content[0x60:0x62] = bytes([config_space.CAP_EXP, 0])
    content[4:6] = b"\x07\x04"
    config = space_of(content)
    config.set_memory(False)
    config.set_power_state(3)
    config.flr()
    assert content[4:6] == b"\x05\x04"
    assert content[0x44] == 3
    assert content[0x69] == 0x80
    with pytest.raises(LookupError, match="0x13"):
        config.af_flr()


def test_a_looping_capability_list_ends() -> None:
    content = bytearray(256)
    content[0x34] = 0x40
    content[0x40:0x42] = bytes([0x05, 0x40])
    assert space_of(content).capability(config_space.CAP_EXP) is None


BUFINFO = """
Dma-buf Objects:
size    \tflags   \tmode    \tcount   \texp_name\tino     \tname
04294967296\t00080002\t0008000f\t00000002\tvfio_pci_core\t00000012\t<none>
\tAttached Devices:
\t0000:00:04.0
Total 1 devices attached


Total 1 objects, 4294967296 bytes
"""


def test_bufinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bufinfo").write_text(BUFINFO)
    monkeypatch.setattr(dmabuf, "BUFINFO", tmp_path / "bufinfo")
    assert dmabuf.bufinfo() == [
        {"size": "04294967296", "exp_name": "vfio_pci_core", "ino": "00000012", "name": "<none>"}
    ]
    assert dmabuf.count() == (1, 1)


@pytest.mark.parametrize(
    "layout",
    [
        BUFINFO.replace("\t<none>", ""),
        BUFINFO.replace("Total 1 obj", "Total 2 obj"),
        BUFINFO.replace(" attached", ""),
        "",
    ],
)
def test_bufinfo_in_another_layout_is_no_empty_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    (tmp_path / "bufinfo").write_text(layout)
    monkeypatch.setattr(dmabuf, "BUFINFO", tmp_path / "bufinfo")
    with pytest.raises(ValueError, match="buffers found"):
        dmabuf.bufinfo()
