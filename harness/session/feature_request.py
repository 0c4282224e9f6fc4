# SPDX-License-Identifier: GPL-2.0-only
"""Raw requests for an export, valid and invalid ones. One call of the guest sends many of them."""

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import errno_name
from harness.session.export import MAINLINE, ExportUapi, Range
from harness.session.handle import Handle
from harness.session.session import Session

VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_SET, VFIO_DEVICE_FEATURE_PROBE = 1 << 16, 1 << 17, 1 << 18
LOW_POWER_ENTRY, LOW_POWER_ENTRY_WITH_WAKEUP, LOW_POWER_EXIT = 3, 4, 5
"""VFIO_DEVICE_FEATURE_... (include/uapi/linux/vfio.h)."""
HEADER_SIZE, PAYLOAD_SIZE, RANGE_SIZE = 8, 16, 16
"""Bytes of struct vfio_device_feature, of the payload before its ranges, and of a range (include/uapi/linux/vfio.h)."""
IORESOURCE_IO = 0x100  # include/linux/ioport.h


def wakeup(fd: int) -> bytes:
    """Encode ``struct vfio_device_low_power_entry_with_wakeup``. ``fd``: an eventfd, or a bad one."""
    return struct.pack("<iI", fd, 0)


@dataclass(frozen=True)
class FeatureRequest:
    """VFIO_DEVICE_FEATURE with the payload of the export. Every member is free; None means the correct value."""

    region: int = 0
    ranges: tuple[Range, ...] = ((0, 4096),)
    open_flags: int = os.O_RDWR | os.O_CLOEXEC
    flags: int = 0
    """``flags`` of struct vfio_device_feature_dma_buf."""
    operation: int = VFIO_DEVICE_FEATURE_GET
    """GET, SET, PROBE and other bits of ``flags`` of struct vfio_device_feature, without the feature's number."""
    nr_ranges: int | None = None
    argsz: int | None = None
    readable: int | None = None
    """How many bytes the kernel can read, header included; the rest is inaccessible."""

    @property
    def count(self) -> int:
        """nr_ranges as the kernel sees it."""
        return len(self.ranges) if self.nr_ranges is None else self.nr_ranges

    @property
    def covered_ranges(self) -> tuple[Range, ...]:
        """The ranges within nr_ranges."""
        return self.ranges[: self.count]

    @property
    def length(self) -> int:
        """The size of header, payload and ranges in mainline's uAPI, in bytes."""
        return HEADER_SIZE + PAYLOAD_SIZE + RANGE_SIZE * len(self.ranges)

    def encode(self, uapi: ExportUapi = MAINLINE) -> bytes:
        """Encode header, payload and ranges. CapabilityMissing if the uAPI cannot express the request."""
        payload = uapi.payload(self.region, self.ranges, self.open_flags, self.flags, self.count)
        argsz = HEADER_SIZE + len(payload) if self.argsz is None else self.argsz
        return struct.pack("<II", argsz, self.operation | uapi.feature) + payload

    def __str__(self) -> str:
        """Name the region, the ranges, and the members that differ from their default."""
        ranges = ", ".join(f"{offset:#x}+{length:#x}" for offset, length in self.ranges[:8])
        more = f" and {len(self.ranges) - 8} more" if len(self.ranges) > 8 else ""
        odd = {
            name: hex(value)
            for name, value in vars(self).items()
            if name not in ("region", "ranges") and value != getattr(FeatureRequest, name)
        }
        return f"region {self.region}, [{ranges}{more}]" + "".join(f", {key} {value}" for key, value in odd.items())


@dataclass(frozen=True)
class RequestOutcome:
    """How the kernel answered a request."""

    errno: str | None
    """The errno's name; None for success."""
    size: int = 0
    """Size of the exported buffer in bytes; 0 if nothing was exported."""

    @classmethod
    def of(cls, value: int) -> "RequestOutcome":
        """Convert the agent's number: ``-errno`` or a size."""
        return cls(errno_name(-value)) if value < 0 else cls(None, value)

    def __str__(self) -> str:
        """Describe it in the reason of a verdict."""
        return self.errno or f"accepted, {self.size} bytes exported"


@dataclass(frozen=True)
class Bar:
    """A BAR of a device."""

    start: int
    """Physical address in the guest."""
    size: int
    """In bytes."""
    io: bool
    """Whether it is an I/O BAR."""


class FeatureClient:
    """Sends requests to the fd of a vfio device. The guest closes each exported buffer at once."""

    def __init__(self, session: Session, device: Handle) -> None:
        self._session = session
        self._device = device

    def request(self, *requests: FeatureRequest, times: int = 1) -> list[RequestOutcome]:
        """Send each request ``times`` times. Returns each one's last outcome."""
        raw = [(self._encode(request), request.readable) for request in requests]
        return list(map(RequestOutcome.of, self._call("request", requests=raw, times=times)))

    def request_bytes(self, data: bytes, readable: int) -> RequestOutcome:
        """Send a request for any feature, of which only ``readable`` bytes can be read."""
        (value,) = self._call("request", requests=[(data, readable)])
        return RequestOutcome.of(value)

    def request_without_fds(self, request: FeatureRequest) -> RequestOutcome:
        """Send a request from a process that may open no more files."""
        return RequestOutcome.of(self._call("request_without_fds", data=self._encode(request)))

    def request_without_memory(self, request: FeatureRequest) -> list[RequestOutcome]:
        """Fail the call's first allocation, then its second, and so on.

        Returns each outcome; in the last one no allocation failed.
        """
        return list(map(RequestOutcome.of, self._call("request_without_memory", data=self._encode(request))))

    def slab(self) -> int:
        """Return the guest kernel's unreclaimable slab memory in bytes (``SUnreclaim``)."""
        return int(self._session.agent.call("feature_request", "slab"))

    def _encode(self, request: FeatureRequest) -> bytes:
        return request.encode(self._session.export_uapi)

    def _call(self, do: str, **args: Any) -> Any:
        return self._session.agent.call("feature_request", do, device=self._device, **args)


def open_unbound(session: Session, device_id: str) -> FeatureClient:
    """Open a device's character device, and leave it unbound from any iommufd."""
    bdf = session.bdf(device_id)
    session.agent.call("pci", "bind", bdf=bdf)
    return FeatureClient(session, Handle(session.agent, session.agent.call("vfio", "open_node", bdf=bdf)))


def open_variant(session: Session, device_id: str, driver: str) -> FeatureClient:
    """Bind a device to the variant driver ``driver`` in place of vfio-pci, and open it."""
    agent, bdf = session.agent, session.bdf(device_id)
    agent.call("feature_request", "bind_variant", bdf=bdf, driver=driver)
    iommufd = agent.call("iommufd", "Iommufd")
    space = agent.call(iommufd, "ioas")
    return FeatureClient(session, Handle(agent, agent.call("vfio", "open_cdev", bdf=bdf, iommufd=iommufd, space=space)))


def bars(session: Session, device_id: str) -> dict[int, Bar]:
    """Return the BARs of a device by number, without the absent ones."""
    rows: Sequence[tuple[int, int, int]] = session.agent.call("feature_request", "bars", bdf=session.bdf(device_id))
    return {
        number: Bar(start, size, bool(flags & IORESOURCE_IO))
        for number, (start, size, flags) in enumerate(rows)
        if size
    }
