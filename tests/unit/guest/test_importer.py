# SPDX-License-Identifier: GPL-2.0-only
"""The guest side of the test importer: its uAPI against uapi.h, and which transfers a window tries."""

import re
from ctypes import sizeof
from typing import Any, cast

import pytest

from harness.guest.importer import Attachment, DmaApiEdu, DmaApiWindow, _address
from harness.guest.kernel import Ioctl, Struct
from harness.guest.rpc import Refused
from harness.guest.uapi import importer as uapi
from harness.paths import GUEST_IMAGES


@pytest.mark.parametrize(
    ("request_", "number"),
    [
        (uapi.IMPORTER_ATTACH, 0x40105600),
        (uapi.IMPORTER_MAP, 0x5602),
        (uapi.IMPORTER_TABLE, 0xC0185607),
        (uapi.IMPORTER_LOG, 0xC0185608),
        (uapi.IMPORTER_SIGNAL, 0x560A),
        (uapi.IMPORTER_EDU, 0x4018560B),
        (uapi.IMPORTER_COUNTS, 0x8020560C),
        (uapi.IMPORTER_PAUSE, 0x4008560D),
        (uapi.IMPORTER_RESUME, 0x560F),
        (uapi.IMPORTER_ACCESS_PIN, 0x40205613),
    ],
    ids=lambda value: value.name if isinstance(value, Ioctl) else "",
)
def test_ioctl_numbers(request_: Ioctl, number: int) -> None:
    assert request_.number == number


@pytest.mark.parametrize(("struct", "size"), [(uapi.SgEntry, 32), (uapi.AttachmentEvent, 24)])
def test_array_elements_have_the_size_that_the_module_has(struct: type[Struct], size: int) -> None:
    assert sizeof(struct) == size


def test_constants_equal_those_of_the_header() -> None:
    """Plain numbers; the ioctls and importer_attach.flags' mask are not among them."""
    header = (GUEST_IMAGES / "importer" / "uapi.h").read_text()
    found = re.findall(r"^(?:#define|\t)\s*(IMPORTER_\w+)\s+(?:= )?(0x[0-9a-f]+|\d+)\b", header, re.M)
    values = {name: int(value, 0) for name, value in found if name != "IMPORTER_FLAGS"}
    assert len(values) == 43
    assert {name: getattr(uapi, name) for name in values} == values


def test_structures_have_the_members_of_the_header() -> None:
    header = (GUEST_IMAGES / "importer" / "uapi.h").read_text()
    widths = {"__u32": 4, "__s32": 4, "__u64": 8, "__s64": 8}
    for struct, name in (
        (uapi.Attach, "importer_attach"),
        (uapi.Umem, "importer_umem"),
        (uapi.SgEntry, "importer_sg_entry"),
        (uapi.SgTable, "importer_sg_table"),
        (uapi.AttachmentEvent, "importer_event"),
        (uapi.Log, "importer_log"),
        (uapi.Edu, "importer_edu"),
        (uapi.Counts, "importer_counts"),
        (uapi.PauseRequest, "importer_pause_request"),
        (uapi.AccessRequest, "importer_access_request"),
        (uapi.AccessRange, "importer_access_range"),
    ):
        body = header.split(f"struct {name} {{\n")[1].split("}")[0]
        members = [(member, widths[kind]) for kind, member in re.findall(r"(__[us]\d+) (\w+);", body)]
        assert [(each.strip("_"), sizeof(kind)) for each, kind in struct._fields_] == members


def test_a_pci_address_as_the_module_takes_it() -> None:
    assert _address("0001:03:1f.7") == 0x0001_03_FF


class Mapped:
    """An attachment whose mapping has the given areas."""

    def __init__(self, *areas: tuple[int, int]) -> None:
        self.areas = areas
        self.live = True

    def table(self) -> dict[str, Any]:
        return {"entries": [{"address": address, "length": length} for address, length in self.areas]}

    def mapped(self) -> bool:
        return self.live


class Engine:
    """Records the DMAs that a window starts."""

    def __init__(self, translated: bool = True) -> None:
        self.translated = translated
        self.windows: list[DmaApiWindow] = []
        self.dmas: list[tuple[int, bytes]] = []

    def dma_write(self, address: int, data: bytes) -> None:
        self.dmas.append((address, data))

    def window(self, attachment: Mapped, start: int, length: int) -> DmaApiWindow:
        return DmaApiWindow(cast(DmaApiEdu, self), cast(Attachment, attachment), start, length)


def test_a_transfer_is_cut_where_areas_end() -> None:
    engine = Engine()
    window = engine.window(Mapped((0x10000, 8), (0x90000, 8)), start=4, length=12)
    window.write(1, b"abcdefgh")
    assert engine.dmas == [(0x10005, b"abc"), (0x90000, b"defgh")]
    assert window.iova() == 0x10004
    with pytest.raises(ValueError, match="beyond the buffer"):
        window.write(8, b"abcdefgh")


def test_a_stale_address_is_tried_unless_another_window_has_it() -> None:
    engine = Engine()
    old = Mapped((0x10000, 0x1000))
    stale = engine.window(old, 0, 0x1000)
    old.live = False
    stale.store32(4, 7)
    assert engine.dmas == [(0x10004, b"\7\0\0\0")]
    new = engine.window(Mapped((0x10000, 0x1000)), 0, 0x1000)
    with pytest.raises(Refused):
        stale.store32(4, 7)
    new.close()
    stale.store32(4, 8)
    assert len(engine.dmas) == 2


def test_without_an_iommu_a_stale_address_is_not_tried() -> None:
    engine = Engine(translated=False)
    old = Mapped((0x10000, 0x1000))
    stale = engine.window(old, 0, 0x1000)
    old.live = False
    with pytest.raises(Refused):
        stale.store32(4, 7)
    assert not engine.dmas
