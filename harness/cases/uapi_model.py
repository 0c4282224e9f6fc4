# SPDX-License-Identifier: GPL-2.0-only
"""Section 1 of the contract as a pure function: the outcome that an export request must have.

The checks are those of Linux 7.2's vfio_ioctl_device_feature, vfio_check_feature and vfio_pci_core_feature_dma_buf,
in their order. The first check that applies decides.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.cases.constants import PAGE, U64
from harness.session.feature_request import (
    HEADER_SIZE,
    PAYLOAD_SIZE,
    RANGE_SIZE,
    VFIO_DEVICE_FEATURE_GET,
    VFIO_DEVICE_FEATURE_PROBE,
    VFIO_DEVICE_FEATURE_SET,
    Bar,
    FeatureRequest,
    RequestOutcome,
)

VFIO_DEVICE_FEATURE_MASK = 0xFFFF
KMALLOC_MAX_SIZE = 4 << 20
"""Bytes that one kmalloc can return, so the largest array of ranges."""

Bars = Mapping[int, Bar]


@dataclass(frozen=True)
class Check:
    """A check of the kernel."""

    row: str
    """The row of the contract."""
    errno: str | None
    """The outcome of a request that it stops; None is success (PROBE)."""
    applies: Callable[[FeatureRequest, Bars], bool]
    """Whether it stops a request that all earlier checks let pass."""


def _unreadable(request: FeatureRequest, needed: int) -> bool:
    return (request.length if request.readable is None else request.readable) < needed


def _bad_operation(request: FeatureRequest) -> bool:
    get_and_set = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET
    known = VFIO_DEVICE_FEATURE_MASK | get_and_set | VFIO_DEVICE_FEATURE_PROBE
    if request.operation & ~known:
        return True
    return not request.operation & VFIO_DEVICE_FEATURE_PROBE and request.operation & get_and_set == get_and_set


def _bad_range(request: FeatureRequest) -> bool:
    lengths = [length for _, length in request.covered_ranges]
    unaligned = any(offset % PAGE or length % PAGE or not length for offset, length in request.covered_ranges)
    return unaligned or sum(lengths) >= 1 << 63


def _bounds(request: FeatureRequest, bar: Bar) -> str | None:
    for offset, length in request.covered_ranges:
        if bar.start + offset + length >= U64:
            return "EOVERFLOW"
        if offset + length > bar.size:
            return "EINVAL"
    return None


CHECKS = (
    Check("uapi.header", "EFAULT", lambda r, _: _unreadable(r, HEADER_SIZE)),
    Check("uapi.header", "EINVAL", lambda r, _: r.argsz is not None and r.argsz < HEADER_SIZE),
    Check("uapi.header", "EINVAL", lambda r, _: _bad_operation(r)),
    Check("uapi.operation", "EINVAL", lambda r, _: bool(r.operation & VFIO_DEVICE_FEATURE_SET)),
    Check("uapi.operation", None, lambda r, _: bool(r.operation & VFIO_DEVICE_FEATURE_PROBE)),
    Check("uapi.operation", "EINVAL", lambda r, _: not r.operation & VFIO_DEVICE_FEATURE_GET),
    Check("uapi.operation", "EINVAL", lambda r, _: r.argsz is not None and r.argsz < HEADER_SIZE + PAYLOAD_SIZE),
    Check("uapi.payload-unreadable", "EFAULT", lambda r, _: _unreadable(r, HEADER_SIZE + PAYLOAD_SIZE)),
    Check("uapi.reserved", "EINVAL", lambda r, _: not r.count or r.flags != 0),
    Check("uapi.region", "ENODEV", lambda r, bars: r.region not in bars),
    Check("uapi.ranges-unreadable", "ENOMEM", lambda r, _: r.count * RANGE_SIZE > KMALLOC_MAX_SIZE),
    Check(
        "uapi.ranges-unreadable",
        "EFAULT",
        lambda r, _: _unreadable(r, HEADER_SIZE + PAYLOAD_SIZE + RANGE_SIZE * r.count),
    ),
    Check("uapi.range", "EINVAL", lambda r, _: _bad_range(r)),
    Check("uapi.io-bar", "EINVAL", lambda r, bars: bars[r.region].io),
    Check("uapi.bounds", "EOVERFLOW", lambda r, bars: _bounds(r, bars[r.region]) == "EOVERFLOW"),
    Check("uapi.bounds", "EINVAL", lambda r, bars: _bounds(r, bars[r.region]) == "EINVAL"),
)


def decide(request: FeatureRequest, bars: Bars) -> Check | None:
    """Return the check that stops the request; None if all let it pass."""
    return next((check for check in CHECKS if check.applies(request, bars)), None)


def predict(request: FeatureRequest, bars: Bars) -> RequestOutcome:
    """Return the outcome that the kernel must give on a device with these BARs whose driver offers P2P."""
    check = decide(request, bars)
    if check is None:
        return RequestOutcome(None, sum(length for _, length in request.covered_ranges))
    return RequestOutcome(check.errno)
