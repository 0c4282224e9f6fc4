# SPDX-License-Identifier: GPL-2.0-only
"""Raw requests: memory that ends early, and the text of requests and outcomes."""

import errno
import os

import pytest

from harness.guest.feature_request import _guarded
from harness.guest.kernel import Ioctl, ioctl_at
from harness.session.feature_request import FeatureRequest, RequestOutcome

FIONBIO = Ioctl("FIONBIO", 0x5421)  # reads an int


def test_the_kernel_cannot_read_past_the_end_of_a_request() -> None:
    reader, writer = os.pipe()
    try:
        with _guarded(5000) as put:
            assert ioctl_at(reader, FIONBIO, put(bytes(4996) + b"\1\0\0\0") + 4996) == 0
            assert not os.get_blocking(reader)
            assert ioctl_at(reader, FIONBIO, put(bytes(4))) == 0
            with pytest.raises(OSError, match="FIONBIO") as refused:
                ioctl_at(reader, FIONBIO, put(bytes(3)))
            assert refused.value.errno == errno.EFAULT
            with pytest.raises(OSError, match="FIONBIO"):
                ioctl_at(reader, FIONBIO, put(b""))
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
def test_an_outcome_has_the_errnos_name(value: int, outcome: RequestOutcome) -> None:
    assert RequestOutcome.of(value) == outcome


def test_a_requests_text_is_short_and_names_unusual_members() -> None:
    assert str(FeatureRequest(2, ((0x1000, 0x2000),), argsz=7)) == "region 2, [0x1000+0x2000], argsz 0x7"
    assert len(str(FeatureRequest(ranges=((0, 4096),) * 512))) < 200
