# SPDX-License-Identifier: GPL-2.0-only
"""Read the logs of the machine's vfio-user devices (harness/device/log.py): what the devices themselves saw.

Why a read is complete: a device writes its line before it answers an access, and QEMU posts no writes. So once an
access has ended, its line is in the file. The times are the host's CLOCK_MONOTONIC, as ``time.monotonic``.
"""

import json
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.witness.doorbell import Doorbell

NOT_EVIDENCE = {"read", "write", "map", "unmap", "doorbell", "wrong"}
"""Events of each access: too many for the evidence, or in it already (doorbells)."""


@dataclass(frozen=True)
class DeviceEvent:
    """One line of a device's log."""

    device: str
    """Its id in the machine's description."""
    t: float
    """time.monotonic() of the host."""
    event: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return one line for the evidence."""
        shown = ", ".join(f"{name} {_text(name, value)}" for name, value in self.fields.items())
        return f"{self.device}: {self.event}" + (f" {shown}" if shown else "")


@dataclass(frozen=True)
class DeviceDma:
    """A DMA that a device made by itself, as it saw it end."""

    began: float
    """time.monotonic() at which the device sent it."""
    ended: float
    address: int
    length: int
    write: bool
    value: int | None
    """The number that a write of up to 8 bytes had, little-endian; None for a longer one and for a read."""
    errno: int
    """0 if it was made, else the errno of the refusal."""

    @property
    def refused(self) -> bool:
        """Whether the device was told that its DMA was refused."""
        return self.errno != 0


def _text(name: str, value: object) -> str:
    return f"{value:#x}" if name == "address" and isinstance(value, int) else str(value)


def parse(device: str, line: str) -> DeviceEvent:
    """Read one line. Raises ValueError or KeyError for anything else."""
    fields = json.loads(line)
    return DeviceEvent(device, fields.pop("t"), fields.pop("event"), fields)


class DeviceLog:
    """The log of one device. Each call reads on from where the last one ended."""

    def __init__(self, device: str, path: Path) -> None:
        self.device = device
        self._path = path
        self._offset = 0
        self._events: list[DeviceEvent] = []

    def since(self, t: float) -> list[DeviceEvent]:
        """Return the events since the time ``t``."""
        self._read()
        return self._events[bisect_left(self._events, t, key=lambda event: event.t) :]

    def _read(self) -> None:
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # the device is still writing it
                self._events.append(parse(self.device, line.decode("ascii")))
                self._offset += len(line)


class DeviceLogs:
    """The logs of all vfio-user devices of a machine; without any, nothing is seen."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._logs = {device: DeviceLog(device, path) for device, path in paths.items()}

    @property
    def devices(self) -> list[str]:
        """The ids of the devices."""
        return list(self._logs)

    @staticmethod
    def mark() -> float:
        """Return the present time."""
        return time.monotonic()

    def since(self, t: float, device: str | None = None) -> list[DeviceEvent]:
        """Return the events of one device, or of all, since the time ``t``, by time."""
        logs = self._logs.values() if device is None else [self._logs[device]]
        return sorted((event for log in logs for event in log.since(t)), key=lambda event: event.t)

    def doorbells(self, t: float) -> list[Doorbell]:
        """Return the doorbells that the devices saw since the time ``t``, with Unix times."""
        offset = time.time() - time.monotonic()
        return [_doorbell(event, offset) for event in self.since(t) if event.event == "doorbell"]

    def dma(self, t: float, device: str) -> list[DeviceDma]:
        """Return the DMA that a device made since the time ``t``."""
        return list(_dma(self.since(t, device)))


def _doorbell(event: DeviceEvent, offset: float) -> Doorbell:
    queue: Literal["sq", "cq"] = event.fields["queue"]
    fields = event.fields
    return Doorbell(queue, fields["qid"], fields["value"], fields["accepted"], event.t + offset)


def _dma(events: list[DeviceEvent]) -> Iterator[DeviceDma]:
    for event in events:
        if event.event not in ("dma-read", "dma-write"):
            continue
        fields = event.fields
        value = int.from_bytes(bytes.fromhex(fields["data"]), "little") if "data" in fields else None
        write = event.event == "dma-write"
        yield DeviceDma(fields["began"], event.t, fields["address"], fields["length"], write, value, fields["errno"])
