# SPDX-License-Identifier: GPL-2.0-only
"""What an export may contain: any ranges of a BAR, in any order and number. What its fd then reports."""

import os
from collections.abc import Iterator
from itertools import product

import pytest

from harness.cases.constants import PAGE, UNDER_TEST
from harness.cases.marks import rows_in
from harness.cases.must import must
from harness.session import Device, Session
from harness.session.export import Range
from harness.session.feature_request import Bar, FeatureClient, FeatureRequest, RequestOutcome, bars

rows = rows_in("uapi")
many_ranges = pytest.mark.needs("many_ranges")

REGISTERS, CMB = 0, 2
"""BAR0 of QEMU's NVMe is registers, doorbells and the MSI-X table; BAR2 is the controller memory buffer, 16 MiB."""
COUNTS = (1, 2, 3, 16, 512)


@pytest.fixture
def device(session: Session) -> Device:
    """The device under test, without its controller started."""
    return session.open_device(UNDER_TEST)


@pytest.fixture
def client(session: Session, device: Device) -> FeatureClient:
    """Requests exports from that device."""
    return FeatureClient(session, device)


def must_export(client: FeatureClient, sentence: str, *requests: FeatureRequest) -> None:
    """State that the kernel grants each request, with the sum of its ranges as the buffer's size."""
    for request, outcome in zip(requests, client.request(*requests), strict=True):
        expected = RequestOutcome(None, sum(length for _, length in request.ranges))
        must(outcome == expected, sentence, f"{outcome}, expected {expected.size} ({request})")


def pages(*numbers: int) -> tuple[Range, ...]:
    """One page each."""
    return tuple((number * PAGE, PAGE) for number in numbers)


def several(bar: Bar) -> Iterator[tuple[str, FeatureRequest, int]]:
    """Lists of ranges that are accepted: sentence, request, and size of the buffer."""
    overlapping = ((0, 4 * PAGE), (2 * PAGE, 4 * PAGE), (0, bar.size))
    yield "a range can be exported twice in one buffer", FeatureRequest(CMB, pages(5, 5)), 2 * PAGE
    yield "ranges may overlap", FeatureRequest(CMB, overlapping), 8 * PAGE + bar.size
    yield "ranges may be in any order", FeatureRequest(CMB, pages(9, 3, 4000, 0, 7)), 5 * PAGE


def just_one(bar: Bar) -> Iterator[tuple[str, FeatureRequest, int]]:
    """The same for the single range of the series of 2022 to 2024."""
    yield "offset 0 and length 0 are the whole BAR", FeatureRequest(CMB, ((0, 0),)), bar.size


OF_RANGES = {False: several, True: just_one}
"""By whether the uAPI takes a single range."""


@rows("uapi.accepted", "uapi.earlier")
def test_accepted(session: Session, device: Device, client: FeatureClient) -> None:
    """Whole BARs, pages, and overlapping, duplicate and unordered ranges can be exported, also while disabled."""
    found = bars(session, UNDER_TEST)
    whole = [FeatureRequest(number, ((0, bar.size),)) for number, bar in found.items()]
    must_export(client, "a whole BAR can be exported", *whole)
    each = [FeatureRequest(REGISTERS, pages(number)) for number in range(found[REGISTERS].size // PAGE)]
    must_export(client, "every page of a BAR can be exported, also those of the MSI-X table and the doorbells", *each)
    for sentence, request, size in OF_RANGES[session.export_uapi.single](found[CMB]):
        (outcome,) = client.request(request)
        must(outcome == RequestOutcome(None, size), sentence, f"{outcome}, expected {size} ({request})")
    device.set_memory(False)
    must_export(client, "with COMMAND.MEM clear a BAR can be exported", *whole)


@many_ranges
@rows("uapi.many-ranges", "uapi.size")
def test_many_ranges(client: FeatureClient) -> None:
    """1 to 512 adjacent, scattered, duplicate or overlapping ranges make one buffer of their summed size."""
    for count in COUNTS:
        must_export(
            client,
            f"{count} ranges can be exported",
            FeatureRequest(CMB, pages(*range(count))),
            FeatureRequest(CMB, pages(*(number * 7 % 4096 for number in range(count)))),
            FeatureRequest(CMB, pages(*[42] * count)),
            FeatureRequest(CMB, tuple((number * PAGE, 8 * PAGE) for number in range(count))),
            FeatureRequest(CMB, ((0, 16 << 20),) * count),
        )


@many_ranges
@rows("uapi.size")
def test_size(session: Session, device: Device) -> None:
    """lseek, fdinfo and bufinfo give the sum of the ranges as the size, also if ranges overlap."""
    ranges = ((0, 3 * PAGE), (PAGE, 2 * PAGE), (8 << 20, 8 << 20))
    size = sum(length for _, length in ranges)
    buffer = device.export(CMB, ranges)
    shown = [int(entry["size"]) for entry in session.bufinfo() if int(entry["ino"]) == buffer.inode()]
    sizes = [buffer.size(), int(buffer.fdinfo()["size"]), *shown]
    must(sizes == [size] * 3, f"lseek, fdinfo and bufinfo give {size}, the sum of the ranges", sizes)


@rows("uapi.open-flags")
def test_open_flags(device: Device) -> None:
    """open_flags decide the fd's access mode and O_CLOEXEC."""
    for access, cloexec in product((os.O_RDONLY, os.O_WRONLY, os.O_RDWR), (0, os.O_CLOEXEC)):
        with device.export(CMB, pages(0), open_flags=access | cloexec) as buffer:
            given = f"open_flags {access | cloexec:#o}"
            must(buffer.cloexec() is bool(cloexec), f"{given} decide O_CLOEXEC", buffer.cloexec())
            flags = buffer.status_flags()
            must(flags & os.O_ACCMODE == access, f"{given} decide the access mode", f"{flags:#o}")
