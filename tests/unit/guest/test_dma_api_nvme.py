# SPDX-License-Identifier: GPL-2.0-only
"""Memory that the DMA API maps: its pages must be adjacent for the device, and stay mapped until they are unshared."""

from typing import Any

import pytest

from harness.guest import dma_api_nvme
from harness.guest.dma_api_nvme import DmaApiSpace
from harness.guest.resource import Resource, close_all


class Mapped(Resource):
    """A static attachment or a buffer, closed or not."""

    def __init__(self, entries: list[tuple[int, int]] | None = None) -> None:
        super().__init__()
        self._entries = entries or []
        self.closed = False

    def map(self) -> None:
        """Do nothing."""

    def table(self) -> dict[str, Any]:
        return {"entries": [{"address": address, "length": length} for address, length in self._entries]}

    def close(self) -> None:
        self.closed = True


def space_over(monkeypatch: pytest.MonkeyPatch, *entries: tuple[int, int]) -> tuple[DmaApiSpace, Mapped, Mapped]:
    attachment, buffer = Mapped(list(entries)), Mapped()
    monkeypatch.setattr(dma_api_nvme, "Attachment", lambda bdf, made, static: attachment)
    monkeypatch.setattr(dma_api_nvme, "from_memfd", lambda file, length: buffer)
    return DmaApiSpace("0000:02:00.0"), attachment, buffer


def test_adjacent_pieces_are_one_range_until_it_is_unshared(monkeypatch: pytest.MonkeyPatch) -> None:
    space, attachment, buffer = space_over(monkeypatch, (0xFFF0_0000, 0x2000), (0xFFF0_2000, 0x1000))
    pages = space.share(3, 0, 0x3000)
    assert list(pages) == [0xFFF0_0000, 0xFFF0_1000, 0xFFF0_2000]
    assert not attachment.closed
    space.unshare(pages)
    assert attachment.closed
    assert buffer.closed


def test_pieces_that_are_not_adjacent_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    space, _, _ = space_over(monkeypatch, (0xFFF0_0000, 0x1000), (0xFFE0_0000, 0x1000))
    with pytest.raises(RuntimeError, match="not adjacent"):
        space.share(3, 0, 0x2000)


def test_memory_stays_mapped_as_long_as_its_space(monkeypatch: pytest.MonkeyPatch) -> None:
    space, attachment, buffer = space_over(monkeypatch, (0xFFF0_0000, 0x1000))
    space.share(3, 0, 0x1000)
    assert close_all(keep=[space]) == []
    assert not attachment.closed
    assert not buffer.closed
    space.close()
    assert attachment.closed
    assert buffer.closed
