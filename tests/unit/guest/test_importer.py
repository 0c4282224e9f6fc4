# SPDX-License-Identifier: GPL-2.0-only
"""The agent's end of the test importer: its uAPI against what a C compiler makes of uapi.h, and what a window tries."""

from ctypes import sizeof
from typing import Any, cast

import pytest

from harness.guest.importer import Attachment, DmaApiEdu, DmaApiWindow, _address
from harness.guest.kernel import Ioctl, Struct
from harness.guest.rpc import Refused
from harness.guest.uapi import importer as uapi


@pytest.mark.parametrize(
    ("request_", "number"),
    [
        (uapi.ATTACH, 0x40105600),
        (uapi.MAP, 0x5602),
        (uapi.TABLE, 0xC0185607),
        (uapi.LOG, 0xC0185608),
        (uapi.SIGNAL, 0x560A),
        (uapi.EDU, 0x4018560B),
    ],
    ids=lambda value: value.name if isinstance(value, Ioctl) else "",
)
def test_ioctl_numbers(request_: Ioctl, number: int) -> None:
    assert request_.number == number


@pytest.mark.parametrize(("struct", "size"), [(uapi.Entry, 32), (uapi.Event, 24)])
def test_entries_of_arrays_are_as_large_as_the_modules(struct: type[Struct], size: int) -> None:
    assert sizeof(struct) == size


def test_a_pci_address_as_the_module_takes_it() -> None:
    assert _address("0001:03:1f.7") == 0x0001_03_FF


class Mapped:
    """An attachment whose mapping has these areas."""

    def __init__(self, *areas: tuple[int, int]) -> None:
        self.areas = areas
        self.live = True

    def table(self) -> dict[str, Any]:
        return {"entries": [{"address": address, "length": length} for address, length in self.areas]}

    def mapped(self) -> bool:
        return self.live


class Engine:
    """Notes the DMAs that it is asked for."""

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


def test_a_stale_address_is_tried_unless_it_is_another_windows() -> None:
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
