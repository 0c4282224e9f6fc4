# SPDX-License-Identifier: GPL-2.0-only
"""Section 1 of the contract as a pure function: what a request for an export must come to.

The checks are those of Linux 7.2's vfio_ioctl_device_feature, vfio_check_feature and vfio_pci_core_feature_dma_buf,
in their order; the first that applies decides.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.session.feature_request import GET, HEAD, HEADER, PROBE, RANGE, SET, Bar, Outcome, Request

PAGE = 4096
U64 = 1 << 64
MASK = 0xFFFF  # VFIO_DEVICE_FEATURE_MASK
MAX_BYTES = 4 << 20
"""What one kmalloc can give (KMALLOC_MAX_SIZE), so the most that the array of ranges can have."""

Bars = Mapping[int, Bar]


@dataclass(frozen=True)
class Check:
    """One check: ``applies`` to the requests that it refuses, given that all earlier ones let them pass."""

    row: str
    errno: str | None
    applies: Callable[[Request, Bars], bool]


def _unreadable(request: Request, needed: int) -> bool:
    return (request.length if request.readable is None else request.readable) < needed


def _bad_operation(request: Request) -> bool:
    return bool(request.operation & ~(MASK | GET | SET | PROBE)) or (
        not request.operation & PROBE and request.operation & (GET | SET) == GET | SET
    )


def _bad_range(request: Request) -> bool:
    lengths = [length for _, length in request.asked]
    unaligned = any(offset % PAGE or length % PAGE or not length for offset, length in request.asked)
    return unaligned or sum(lengths) >= 1 << 63


def _bounds(request: Request, bar: Bar) -> str | None:
    for offset, length in request.asked:
        if bar.start + offset + length >= U64:
            return "EOVERFLOW"
        if offset + length > bar.size:
            return "EINVAL"
    return None


CHECKS = (
    Check("uapi.header", "EFAULT", lambda r, _: _unreadable(r, HEADER)),
    Check("uapi.header", "EINVAL", lambda r, _: r.argsz is not None and r.argsz < HEADER),
    Check("uapi.header", "EINVAL", lambda r, _: _bad_operation(r)),
    Check("uapi.operation", "EINVAL", lambda r, _: bool(r.operation & SET)),
    Check("uapi.operation", None, lambda r, _: bool(r.operation & PROBE)),
    Check("uapi.operation", "EINVAL", lambda r, _: not r.operation & GET),
    Check("uapi.operation", "EINVAL", lambda r, _: r.argsz is not None and r.argsz < HEADER + HEAD),
    Check("uapi.payload-unreadable", "EFAULT", lambda r, _: _unreadable(r, HEADER + HEAD)),
    Check("uapi.reserved", "EINVAL", lambda r, _: not r.count or r.flags != 0),
    Check("uapi.region", "ENODEV", lambda r, bars: r.region not in bars),
    Check("uapi.ranges-unreadable", "ENOMEM", lambda r, _: r.count * RANGE > MAX_BYTES),
    Check("uapi.ranges-unreadable", "EFAULT", lambda r, _: _unreadable(r, HEADER + HEAD + RANGE * r.count)),
    Check("uapi.range", "EINVAL", lambda r, _: _bad_range(r)),
    Check("uapi.io-bar", "EINVAL", lambda r, bars: bars[r.region].io),
    Check("uapi.bounds", "EOVERFLOW", lambda r, bars: _bounds(r, bars[r.region]) == "EOVERFLOW"),
    Check("uapi.bounds", "EINVAL", lambda r, bars: _bounds(r, bars[r.region]) == "EINVAL"),
)


def decide(request: Request, bars: Bars) -> Check | None:
    """The check that decides; None for a request that all let pass."""
    return next((check for check in CHECKS if check.applies(request, bars)), None)


def predict(request: Request, bars: Bars) -> Outcome:
    """What the kernel must answer, on a device with these BARs whose variant driver, if any, offers P2P."""
    check = decide(request, bars)
    if check is None:
        return Outcome(None, sum(length for _, length in request.asked))
    return Outcome(check.errno)
