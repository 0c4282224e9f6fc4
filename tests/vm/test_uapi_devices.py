# SPDX-License-Identifier: GPL-2.0-only
"""Devices that cannot be exported from: an I/O BAR, a BAR smaller than a page, a driver that offers no P2P."""

from collections.abc import Mapping

import pytest

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

PAGE = 4096
TEST_DEVICE = "pci-testdev"
VARIANT = "virtio_vfio_pci"


@pytest.fixture
def device_id(session: Session) -> str:
    """A device with an I/O BAR and a small one."""
    found = [device.id for device, _ in session.machine.config.walk() if device.type == TEST_DEVICE]
    if not found:
        pytest.skip(f"machine {session.machine.config.name} has no {TEST_DEVICE}, the device with an I/O BAR")
    return found[0]


def must_refuse(client: FeatureClient, errno: str, sentence: str, *requests: FeatureRequest) -> None:
    """Every one of ``requests`` is refused with ``errno``."""
    for request, outcome in zip(requests, client.request(*requests), strict=True):
        must(outcome.errno == errno, sentence, f"{outcome} ({request})")


def numbers(found: dict[int, Bar], *, io: bool) -> list[int]:
    """The BARs in I/O space, or those in memory space."""
    return [number for number, bar in found.items() if bar.io is io]


@pytest.mark.needs("many_ranges")
@pytest.mark.contract("uapi", "uapi.io-bar", "uapi.order")
def test_io_bar(session: Session, device_id: str) -> None:
    """An I/O BAR is never exported, and is told from a memory BAR before its bounds are looked at."""
    (io,) = numbers(bars(session, device_id), io=True)
    client = FeatureClient(session, session.open_device(device_id))
    overflowing = ((1 << 64) - PAGE, PAGE)
    inside, beyond = FeatureRequest(io), FeatureRequest(io, (overflowing,))
    must_refuse(client, "EINVAL", "an I/O BAR is refused with EINVAL, before its bounds are looked at", inside, beyond)
    must_refuse(client, "EFAULT", "unreadable ranges win over an I/O BAR", FeatureRequest(io, readable=24))
    (memory, *_) = numbers(bars(session, device_id), io=False)
    must_refuse(client, "EOVERFLOW", "a memory BAR's bounds are looked at", FeatureRequest(memory, (overflowing,)))


@pytest.mark.contract("uapi", "uapi.bounds")
def test_bar_smaller_than_a_page(session: Session, device_id: str) -> None:
    """A BAR smaller than a page is never exported; a BAR of one page is, whole."""
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
def variant(session: Session, device_id: str, features: Mapping[str, bool]) -> FeatureClient:
    """The device, held by a vfio driver that offers no P2P; whoever opens it next binds it to vfio-pci again."""
    if not features[VARIANT]:
        pytest.skip(f"this kernel has no {VARIANT} (CONFIG_VIRTIO_VFIO_PCI), a vfio driver that offers no P2P")
    if session.interface != "cdev":
        pytest.skip(f"devices are opened by their group; {VARIANT} is opened by its cdev")
    return open_variant(session, device_id, VARIANT)


@pytest.mark.contract("uapi", "uapi.no-p2p", "uapi.order")
def test_variant_without_p2p(variant: FeatureClient) -> None:
    """A device whose variant driver offers no P2P regions is refused whatever is asked of the feature, even a probe."""
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
