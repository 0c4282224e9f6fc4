# SPDX-License-Identifier: GPL-2.0-only
"""The host's side of a vfio-user device: a case programs how it misbehaves, and has it do DMA at will.

The commands go to the device's process, past QEMU and the guest.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from harness.errors import outcome_names
from harness.vm import Machine

SLACK_S = 2.0
"""What a held access costs besides: timers of QEMU and of the guest that are late afterwards."""


@dataclass(frozen=True)
class LateDma:
    """A DMA write of ``data`` that the device starts ``after_s`` seconds after its reset was answered."""

    address: int
    data: bytes
    after_s: float = 0.01


class VfioUserDevice:
    """A device of the machine that is a process of the harness. HarnessError if that process refuses or has ended."""

    def __init__(self, machine: Machine, device_id: str) -> None:
        """Raises KeyError if the machine's description has no such vfio-user device."""
        if device_id not in machine.devices.sockets:
            raise KeyError(device_id)
        self.id = device_id
        self._machine = machine
        self._held_s = 0.0

    def _command(self, do: str, **args: Any) -> Any:
        return self._machine.devices.call(self.id, do, **args)

    def behave(
        self,
        *,
        reset_hold_s: float = 0.0,
        reset_unanswered: bool = False,
        reset_ignored: bool = False,
        unready_s: float = 0.0,
        reset_dma: Sequence[LateDma] = (),
        silent_bars: Sequence[int] = (),
        gone: bool = False,
    ) -> None:
        """Choose how the device misbehaves from now on, until the next call or the end of the case.

        ``reset_hold_s``: the access that resets is answered this late, and all of QEMU stops meanwhile.
        ``reset_unanswered``: it is never answered; QEMU gives up after its x-msg-timeout. ``reset_ignored``: a reset
        changes nothing. ``unready_s``: after a reset, config space and BARs read as ones for so long. ``reset_dma``:
        DMA after a reset was answered. ``silent_bars``: BARs that read as ones and lose writes. ``gone``: everything
        reads as ones, writes are lost and no DMA is made.
        """
        self._allow(self._timeout_s() if reset_unanswered else max(reset_hold_s, unready_s))
        late = [{"after_s": each.after_s, "address": each.address, "data": each.data.hex()} for each in reset_dma]
        self._command(
            "behave",
            reset_hold_s=reset_hold_s,
            reset_unanswered=reset_unanswered,
            reset_ignored=reset_ignored,
            unready_s=unready_s,
            reset_dma=late,
            silent_bars=list(silent_bars),
            gone=gone,
        )

    def _timeout_s(self) -> float:
        """Return after how long QEMU gives up waiting for an answer."""
        return self._machine.devices.message_timeout_s(self.id)

    def _allow(self, seconds: float) -> None:
        """Make every deadline later by what this device may hold QEMU, instead of what it might before."""
        held = seconds + SLACK_S if seconds else 0.0
        self._machine.devices.allowance_s += held - self._held_s
        self._held_s = held

    @contextmanager
    def behaving(self, **behaviour: Any) -> Iterator[None]:
        """Misbehave within the block, as ``behave`` says."""
        self.behave(**behaviour)
        try:
            yield
        finally:
            self.behave()

    def disconnect(self) -> None:
        """End the device's connection to QEMU, as if its process had ended. Only ``Hotplug.disconnect`` calls this."""
        self._command("disconnect")

    def dma_write(self, address: int, data: bytes) -> str:
        """Have the device write by DMA, now. Returns the errno of the refusal that it saw; "" if there was none."""
        return outcome_names([-cast(int, self._command("dma_write", address=address, data=data.hex()))])[0]

    def dma_read(self, address: int, length: int) -> tuple[str, bytes]:
        """Have the device read by DMA, now. Returns the errno as ``dma_write`` does, and the bytes."""
        number, data = self._command("dma_read", address=address, length=length)
        return outcome_names([-number])[0], bytes.fromhex(data)

    def answers(self, region: int, offsets: Sequence[int], times: int) -> list[list[str]]:
        """Read dwords of a region so often, past QEMU. Returns the different answers for each offset, in hex."""
        return cast(list[list[str]], self._command("read", region=region, offsets=list(offsets), times=times))

    def write(self, bar: int, offset: int, data: bytes) -> None:
        """Write to a BAR, past QEMU."""
        self._command("write", bar=bar, offset=offset, data=data.hex())

    def memory(self, bar: int, offset: int, length: int) -> bytes:
        """Return what the device itself has in a BAR of plain memory."""
        return bytes.fromhex(self._command("memory", bar=bar, offset=offset, length=length))

    @contextmanager
    def series(self, address: int, *, first: int = 0, modulo: int, every_s: float = 0.002) -> Iterator[None]:
        """Have the device write dwords to ``address`` by DMA within the block: ``first``, ``first + 1``...

        The values stay below ``modulo``. ``Watch.device_dma`` lists what became of each.
        """
        self._command("start_series", address=address, first=first, modulo=modulo, every_s=every_s)
        try:
            yield
        finally:
            self._command("stop_series")
