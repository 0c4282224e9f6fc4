# SPDX-License-Identifier: GPL-2.0-only
"""Raw requests: memory that ends where it is told, as the kernel sees it; outcomes and requests as they are told."""

import errno
import os

import pytest

from harness.guest.feature_request import _guarded
from harness.guest.kernel import Ioctl, ioctl_at
from harness.session.feature_request import FeatureRequest, RequestOutcome

FIONBIO = Ioctl("FIONBIO", 0x5421)  # reads an int


def test_memory_ends_where_it_is_told() -> None:
    reader, writer = os.pipe()
    try:
        with _guarded(5000) as place:
            assert ioctl_at(reader, FIONBIO, place(bytes(4996) + b"\1\0\0\0") + 4996) == 0
            assert not os.get_blocking(reader)
            assert ioctl_at(reader, FIONBIO, place(bytes(4))) == 0
            with pytest.raises(OSError, match="FIONBIO") as refused:
                ioctl_at(reader, FIONBIO, place(bytes(3)))
            assert refused.value.errno == errno.EFAULT
            with pytest.raises(OSError, match="FIONBIO"):
                ioctl_at(reader, FIONBIO, place(b""))
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        (-22, RequestOutcome("EINVAL")),
        (-95, RequestOutcome("EOPNOTSUPP")),
        (-999, RequestOutcome("999")),
        (8, RequestOutcome(None, 8)),
    ],
)
def test_an_outcome_has_the_kernels_name_of_an_errno(value: int, outcome: RequestOutcome) -> None:
    assert RequestOutcome.of(value) == outcome


def test_a_request_tells_what_is_odd_about_it_in_bounds() -> None:
    assert str(FeatureRequest(2, ((0x1000, 0x2000),), argsz=7)) == "region 2, [0x1000+0x2000], argsz 0x7"
    assert len(str(FeatureRequest(ranges=((0, 4096),) * 512))) < 200
