# SPDX-License-Identifier: GPL-2.0-only
"""What cannot be exported: an I/O BAR, a BAR smaller than a page, a device whose driver offers no P2P."""

import pytest

from harness.cases.constants import PAGE, U64
from harness.cases.marks import rows_in
from harness.cases.must import must
from harness.session import Session
from harness.session.feature_request import (
    VFIO_DEVICE_FEATURE_GET,
    VFIO_DEVICE_FEATURE_PROBE,
    VFIO_DEVICE_FEATURE_SET,
    Bar,
    FeatureClient,
    FeatureRequest,
    bars,
    open_variant,
)

rows = rows_in("uapi")

VARIANT = "virtio_vfio_pci"


@pytest.fixture
def device_id(session: Session, pci_testdev: str | None) -> str:
    """A device with an I/O BAR and a small BAR."""
    if not pci_testdev:
        pytest.skip(f"machine {session.machine.config.name} has no pci-testdev, the device with an I/O BAR")
    return pci_testdev


def must_refuse(client: FeatureClient, errno: str, sentence: str, *requests: FeatureRequest) -> None:
    """State that the kernel refuses each request with ``errno``."""
    for request, outcome in zip(requests, client.request(*requests), strict=True):
        must(outcome.errno == errno, sentence, f"{outcome} ({request})")


def numbers(found: dict[int, Bar], *, io: bool) -> list[int]:
    """The numbers of the BARs in I/O space, or of those in memory space."""
    return [number for number, bar in found.items() if bar.io is io]


@pytest.mark.needs("many_ranges")
@rows("uapi.io-bar", "uapi.order")
def test_io_bar(session: Session, device_id: str) -> None:
    """An I/O BAR is never exported, and is refused before its bounds are checked."""
    (io,) = numbers(bars(session, device_id), io=True)
    client = FeatureClient(session, session.open_device(device_id))
    overflowing = (U64 - PAGE, PAGE)
    inside, beyond = FeatureRequest(io), FeatureRequest(io, (overflowing,))
    must_refuse(client, "EINVAL", "an I/O BAR is refused with EINVAL, before its bounds are checked", inside, beyond)
    must_refuse(client, "EFAULT", "unreadable ranges win over an I/O BAR", FeatureRequest(io, readable=24))
    (memory, *_) = numbers(bars(session, device_id), io=False)
    must_refuse(client, "EOVERFLOW", "a memory BAR's bounds are checked", FeatureRequest(memory, (overflowing,)))


@rows("uapi.bounds")
def test_bar_smaller_than_a_page(session: Session, device_id: str) -> None:
    """A BAR smaller than a page is never exported; a BAR of one page is."""
    found = bars(session, device_id)
    client = FeatureClient(session, session.open_device(device_id))
    for number in numbers(found, io=False):
        request = FeatureRequest(number)
        if found[number].size < PAGE:
            must_refuse(client, "EINVAL", "a BAR smaller than a page is refused with EINVAL", request)
        else:
            (outcome,) = client.request(request)
            must(outcome.size == PAGE, "a BAR of one page is exported", outcome)


@pytest.fixture
def variant(session: Session, device_id: str) -> FeatureClient:
    """The device, bound to a vfio driver that offers no P2P. The next case that opens it binds it to vfio-pci again."""
    if session.interface != "cdev":
        pytest.skip(f"devices are opened by their group; {VARIANT} is opened by its cdev")
    return open_variant(session, device_id, VARIANT)


@pytest.mark.needs(VARIANT)
@rows("uapi.no-p2p", "uapi.order")
def test_variant_without_p2p(variant: FeatureClient) -> None:
    """A device whose variant driver offers no P2P regions refuses every use of the feature, even a probe."""
    operations = [
        VFIO_DEVICE_FEATURE_GET,
        VFIO_DEVICE_FEATURE_PROBE,
        VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_GET,
        0,
        VFIO_DEVICE_FEATURE_SET,
    ]
    requests = [FeatureRequest(operation=operation) for operation in operations]
    sentence = "without P2P regions every use of the feature is refused with EOPNOTSUPP"
    must_refuse(
        variant,
        "EOPNOTSUPP",
        sentence,
        *requests,
        FeatureRequest(argsz=8),
        FeatureRequest(readable=8),
        FeatureRequest(region=9),
    )
    must_refuse(variant, "EFAULT", "an unreadable header wins over a driver without P2P", FeatureRequest(readable=0))
    headers = [
        FeatureRequest(argsz=7),
        *(
            FeatureRequest(operation=VFIO_DEVICE_FEATURE_GET | flag)
            for flag in (VFIO_DEVICE_FEATURE_SET, 1 << 19, 1 << 31)
        ),
    ]
    must_refuse(variant, "EINVAL", "argsz, unknown flags and GET with SET win over a driver without P2P", *headers)
