# SPDX-License-Identifier: GPL-2.0-only
"""A controller that lies: what it answers, keeps and moves is at random, from a seed. Some also lie otherwise.

No case runs on it. It tests the harness: a machine with such a device must never give PASS or FAIL for what the device
alone knows. The seed also chooses how often it lies, and how many accesses it answers truthfully at first.
"""

import time
from pathlib import Path
from random import Random
from typing import ClassVar

from harness.device.model import DmaRefused, Port
from harness.device.models.nvme import Nvme

RATES = (1.0, 0.5, 0.2)
TRUTHFUL = (0, 0, 400, 2000)
"""Accesses before the first lie. The self-checks at boot make about 70."""
DMA_RATE = 0.05
"""How often a write makes it do DMA by itself, among its lies."""
ALSO = (None, "config", "late")
"""What it also does: lie in config space, or answer too late."""
LATE_RATE, LATE_S = 0.1, 12.0
"""How often, among its lies, an answer is late, and by how much. QEMU waits for 20 s (x-msg-timeout)."""


class Liar(Nvme):
    """An NVMe controller that lies. A subclass has the seed."""

    SEED: ClassVar[int] = 0

    def __init__(self, port: Port, drive: Path | None = None) -> None:
        self._random = Random(self.SEED)
        self._rate = self._random.choice(RATES)
        self._truthful = self._random.choice(TRUTHFUL)
        self._also = self._random.choice(ALSO)
        super().__init__(port, drive)

    def _lies(self) -> bool:
        """Decide whether to lie in this access, and log it."""
        self._truthful -= 1
        lies = self._truthful < 0 and self._random.random() < self._rate
        if lies:
            self.port.log("lie")
            if self._also == "late" and self._random.random() < LATE_RATE:
                time.sleep(LATE_S)
        return lies

    def config(self, offset: int, data: bytes) -> bytes:
        return self._random.randbytes(len(data)) if self._also == "config" and self._lies() else data

    def read(self, bar: int, offset: int, length: int) -> bytes:
        truth = super().read(bar, offset, length)
        return self._random.randbytes(length) if self._lies() else truth

    def write(self, bar: int, offset: int, data: bytes) -> None:
        if not self._lies():
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
        return self._random.randbytes(length) if self._lies() else data

    async def store(self, address: int, data: bytes) -> None:
        if self._lies():
            if self._random.random() < self._rate:
                raise DmaRefused(0)
            data = self._random.randbytes(len(data))
        await super().store(address, data)


def liar(seed: int) -> type[Liar]:
    """Return the model with a seed."""
    return type(f"Liar{seed}", (Liar,), {"SEED": seed})
