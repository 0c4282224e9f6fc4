# SPDX-License-Identifier: GPL-2.0-only
"""The model of the export's checks: each decides alone, and random requests reach every check."""

import pytest

from harness.cases.uapi_model import CHECKS, decide, predict
from harness.cases.uapi_random import sample
from harness.session.feature_request import (
    VFIO_DEVICE_FEATURE_GET,
    VFIO_DEVICE_FEATURE_PROBE,
    VFIO_DEVICE_FEATURE_SET,
    Bar,
    FeatureRequest,
    RequestOutcome,
)

MIB = 1 << 20
BARS = {0: Bar(0xFE800000, 0x4000, False), 2: Bar(0xFC000000, 16 * MIB, False), 4: Bar(0xC000, 256, True)}
U64 = 1 << 64


@pytest.mark.parametrize(
    ("errno", "request_"),
    [
        ("EFAULT", FeatureRequest(readable=7)),
        ("EINVAL", FeatureRequest(argsz=7)),
        ("EINVAL", FeatureRequest(operation=VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET)),
        ("EINVAL", FeatureRequest(operation=0)),
        ("EINVAL", FeatureRequest(operation=VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_SET, readable=8)),
        (None, FeatureRequest(operation=VFIO_DEVICE_FEATURE_PROBE, readable=8, region=9)),
        ("EINVAL", FeatureRequest(argsz=23)),
        ("EFAULT", FeatureRequest(readable=23)),
        ("EINVAL", FeatureRequest(nr_ranges=0)),
        ("EINVAL", FeatureRequest(flags=1)),
        ("ENODEV", FeatureRequest(region=1)),
        ("EFAULT", FeatureRequest(readable=39)),
        ("EFAULT", FeatureRequest(nr_ranges=(4 << 20) // 16)),
        ("ENOMEM", FeatureRequest(nr_ranges=(4 << 20) // 16 + 1)),
        ("EINVAL", FeatureRequest(ranges=((0, 0),))),
        ("EINVAL", FeatureRequest(ranges=((0, 4096), (1, 4096)))),
        ("EINVAL", FeatureRequest(ranges=((0, 1 << 62), (0, 1 << 62)))),
        ("EINVAL", FeatureRequest(region=4)),
        ("EINVAL", FeatureRequest(ranges=((0x3000, 0x2000),))),
        ("EOVERFLOW", FeatureRequest(ranges=((U64 - 4096, 4096),))),
        ("EOVERFLOW", FeatureRequest(ranges=((U64 - BARS[0].start - 4096, 4096),))),
        ("EINVAL", FeatureRequest(ranges=((U64 - BARS[0].start - 8192, 4096),))),
        ("EINVAL", FeatureRequest(ranges=((0x4000, 4096), (U64 - 4096, 4096)))),
        ("EOVERFLOW", FeatureRequest(ranges=((U64 - 4096, 4096), (0x4000, 4096)))),
    ],
)
def test_the_first_error_decides(errno: str | None, request_: FeatureRequest) -> None:
    assert predict(request_, BARS) == RequestOutcome(errno)


def test_a_right_request_is_exported_with_the_sum_of_its_ranges() -> None:
    assert predict(FeatureRequest(ranges=((0x3000, 0x1000), (0, 0x4000), (0, 0x4000))), BARS) == RequestOutcome(
        None, 0x9000
    )
    assert predict(FeatureRequest(ranges=((0, 0x1000), (1, 1)), nr_ranges=1), BARS) == RequestOutcome(None, 0x1000)


def test_a_request_is_encoded_as_the_uapi_says() -> None:
    data = FeatureRequest(2, ((0x1000, 0x2000),), open_flags=0x80002, flags=1).encode()
    assert (
        data.hex() == "280000000b000100" + "02000000020008000100000001000000" + "0010000000000000" + "0020000000000000"
    )
    assert FeatureRequest(nr_ranges=7, argsz=3).encode()[:8].hex() == "030000000b000100"


def test_random_requests_reach_every_check_and_are_the_same_for_a_seed() -> None:
    requests = sample(BARS, 1000, seeded=1)
    decided = [decide(request, BARS) for request in requests]
    assert set(CHECKS) <= set(decided)
    assert decided.count(None) > len(requests) / 5
    assert sample(BARS, 100, seeded=2) == sample(BARS, 100, seeded=2) != sample(BARS, 100, seeded=3)
