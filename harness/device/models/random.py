# SPDX-License-Identifier: GPL-2.0-only
"""A faulty controller: what it answers, keeps and moves is at random, from a seed. Some have other faults, too.

No case runs on it. It tests the harness: a machine with such a device must never give PASS or FAIL for what the device
alone knows. The seed also chooses how often it goes wrong, and how many accesses it answers rightly at first.
"""

import time
from pathlib import Path
from random import Random
from typing import ClassVar

from harness.device.model import DmaRefused, Port
from harness.device.models.nvme import Nvme

RATES = (1.0, 0.5, 0.2)
RIGHT_AT_FIRST = (0, 0, 400, 2000)
"""Accesses before the first fault. The self-checks at boot make about 70."""
DMA_RATE = 0.05
"""How often a write makes it do DMA by itself, among its faults."""
ALSO = (None, "config", "late")
"""What else it does: answer wrongly in config space, or too late."""
LATE_RATE, LATE_S = 0.1, 12.0
"""How often, among its faults, an answer is late, and by how much. QEMU waits for 20 s (x-msg-timeout)."""


class FaultyNvme(Nvme):
    """A faulty NVMe controller. A subclass has the seed."""

    SEED: ClassVar[int] = 0

    def __init__(self, port: Port, drive: Path | None = None) -> None:
        self._random = Random(self.SEED)
        self._rate = self._random.choice(RATES)
        self._right_left = self._random.choice(RIGHT_AT_FIRST)
        self._also = self._random.choice(ALSO)
        super().__init__(port, drive)

    def _goes_wrong(self) -> bool:
        """Decide whether this access goes wrong, and log it."""
        self._right_left -= 1
        wrong = self._right_left < 0 and self._random.random() < self._rate
        if wrong:
            self.port.log("wrong")
            if self._also == "late" and self._random.random() < LATE_RATE:
                time.sleep(LATE_S)
        return wrong

    def config(self, offset: int, data: bytes) -> bytes:
        return self._random.randbytes(len(data)) if self._also == "config" and self._goes_wrong() else data

    def read(self, bar: int, offset: int, length: int) -> bytes:
        right = super().read(bar, offset, length)
        return self._random.randbytes(length) if self._goes_wrong() else right

    def write(self, bar: int, offset: int, data: bytes) -> None:
        if not self._goes_wrong():
            super().write(bar, offset, data)
            return
        if self._random.random() < DMA_RATE:
            self.port.spawn(self.port.dma_write(self._random.getrandbits(39), self._random.randbytes(8)))
        match self._random.randrange(3):
            case 0:
                super().write(bar, offset, self._random.randbytes(len(data)))
            case 1:
                elsewhere = self._random.randrange(0, self.BARS[bar] - 8, len(data))
                super().write(bar, elsewhere, data)
        # Else the write is lost.

    async def fetch(self, address: int, length: int) -> bytes:
        data = await super().fetch(address, length)
        return self._random.randbytes(length) if self._goes_wrong() else data

    async def store(self, address: int, data: bytes) -> None:
        if self._goes_wrong():
            if self._random.random() < self._rate:
                raise DmaRefused(0)
            data = self._random.randbytes(len(data))
        await super().store(address, data)


def faulty_nvme(seed: int) -> type[FaultyNvme]:
    """Return the model with a seed."""
    return type(f"FaultyNvme{seed}", (FaultyNvme,), {"SEED": seed})
