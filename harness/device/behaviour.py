# SPDX-License-Identifier: GPL-2.0-only
"""How a device misbehaves. A case chooses it; by default a device behaves."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class LateDma:
    """A DMA write that the device starts by itself."""

    after_s: float
    """Seconds after the access that triggers it was answered."""
    address: int
    data: bytes


@dataclass(frozen=True)
class Behaviour:
    """What the device does otherwise than it should."""

    reset_hold_s: float = 0.0
    """The access that resets is answered this late. All of QEMU waits for the answer."""
    reset_unanswered: bool = False
    """The access that resets is never answered: QEMU gives up after its x-msg-timeout."""
    reset_ignored: bool = False
    """A reset changes nothing."""
    unready_s: float = 0.0
    """After a reset, config space and BARs read as ones for so long. ``forever`` ends with the next behaviour."""
    reset_dma: tuple[LateDma, ...] = ()
    """DMA after a reset was answered."""
    silent_bars: frozenset[int] = field(default_factory=frozenset)
    """BARs that read as ones and lose writes."""
    gone: bool = False
    """Everything reads as ones, writes are lost, no DMA is made: as if it were pulled out."""

    @classmethod
    def of(cls, fields: dict[str, Any]) -> "Behaviour":
        """Read the JSON of a control command. Raises TypeError for an unknown field."""
        values = dict(fields)
        if "reset_dma" in values:
            values["reset_dma"] = tuple(
                LateDma(each["after_s"], each["address"], bytes.fromhex(each["data"])) for each in values["reset_dma"]
            )
        if "silent_bars" in values:
            values["silent_bars"] = frozenset(values["silent_bars"])
        return cls(**values)
