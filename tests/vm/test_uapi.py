# SPDX-License-Identifier: GPL-2.0-only
"""The checks of a request for an export, first to last, and that an earlier one wins over a later one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import pytest

from harness.cases.must import must
from harness.session import Session
from harness.session.export import Range
from harness.session.feature_request import (
    HEADER_SIZE,
    PAYLOAD_SIZE,
    RANGE_SIZE,
    VFIO_DEVICE_FEATURE_GET,
    VFIO_DEVICE_FEATURE_PROBE,
    VFIO_DEVICE_FEATURE_SET,
    Bar,
    FeatureClient,
    FeatureRequest,
    RequestOutcome,
    bars,
    open_unbound,
)

PAGE = 4096
U64 = 1 << 64
SINGLE = 24  # bytes of the payload of an export of one range
MANY = 1 << 20  # ranges: an array of 16 MiB, more than one allocation can give
MANY_RANGES = pytest.mark.needs("many_ranges")
UNDER_TEST, TEST_DEVICE = "nvme0", "pci-testdev"


@dataclass(frozen=True)
class Refusal:
    """A request with one thing wrong: what, and so which members it sets. ``row``: the row of the contract."""

    row: str
    what: str
    errno: str
    members: dict[str, Any] = field(default_factory=dict)

    @property
    def request(self) -> FeatureRequest:
        """That one thing wrong, all else right."""
        return FeatureRequest(**self.members)

    def __str__(self) -> str:
        """For the sentence of a verdict."""
        return f"{self.what} is refused with {self.errno}"


def ranges(*pairs: tuple[int, int]) -> dict[str, Any]:
    """The member ``ranges``."""
    return {"ranges": pairs}


ANY_UAPI = (
    Refusal("uapi.header", "a header of which nothing is readable", "EFAULT", {"readable": 0}),
    Refusal("uapi.header", "a header that ends a byte early", "EFAULT", {"readable": HEADER_SIZE - 1}),
    Refusal("uapi.header", "argsz 0", "EINVAL", {"argsz": 0}),
    Refusal("uapi.header", "argsz under 8", "EINVAL", {"argsz": HEADER_SIZE - 1}),
    Refusal("uapi.header", "an unknown flag", "EINVAL", {"operation": VFIO_DEVICE_FEATURE_GET | 1 << 19}),
    Refusal("uapi.header", "the highest unknown flag", "EINVAL", {"operation": VFIO_DEVICE_FEATURE_GET | 1 << 31}),
    Refusal("uapi.header", "GET with SET", "EINVAL", {"operation": VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET}),
    Refusal("uapi.operation", "SET", "EINVAL", {"operation": VFIO_DEVICE_FEATURE_SET}),
    Refusal(
        "uapi.operation", "a probe of SET", "EINVAL", {"operation": VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_SET}
    ),
    Refusal(
        "uapi.operation",
        "a probe of GET and SET",
        "EINVAL",
        {"operation": VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET},
    ),
    Refusal("uapi.operation", "neither GET nor SET nor PROBE", "EINVAL", {"operation": 0}),
)
"""Wrong in what comes before the payload: the same in every uAPI."""

REFUSALS = (
    *ANY_UAPI,
    Refusal("uapi.operation", "a payload of no bytes", "EINVAL", {"argsz": HEADER_SIZE}),
    Refusal("uapi.operation", "a payload of 15 bytes", "EINVAL", {"argsz": HEADER_SIZE + PAYLOAD_SIZE - 1}),
    Refusal("uapi.payload-unreadable", "an unreadable payload", "EFAULT", {"readable": HEADER_SIZE}),
    Refusal(
        "uapi.payload-unreadable",
        "a payload that ends a byte early",
        "EFAULT",
        {"readable": HEADER_SIZE + PAYLOAD_SIZE - 1},
    ),
    Refusal("uapi.reserved", "nr_ranges 0", "EINVAL", {"nr_ranges": 0}),
    Refusal("uapi.reserved", "flags 1", "EINVAL", {"flags": 1}),
    Refusal("uapi.reserved", "flags with the highest bit", "EINVAL", {"flags": 1 << 31}),
    Refusal("uapi.region", "the ROM", "ENODEV", {"region": 6}),
    Refusal("uapi.region", "config space", "ENODEV", {"region": 7}),
    Refusal("uapi.region", "VGA", "ENODEV", {"region": 8}),
    Refusal("uapi.region", "a region that no PCI device has", "ENODEV", {"region": 9}),
    Refusal("uapi.region", "the highest region index", "ENODEV", {"region": 0xFFFFFFFF}),
    Refusal("uapi.region", "the upper half of a 64-bit BAR", "ENODEV", {"region": 3}),
    Refusal("uapi.region", "an absent BAR", "ENODEV", {"region": 5}),
    Refusal("uapi.ranges-unreadable", "unreadable ranges", "EFAULT", {"readable": HEADER_SIZE + PAYLOAD_SIZE}),
    Refusal(
        "uapi.ranges-unreadable",
        "a range that ends a byte early",
        "EFAULT",
        {"readable": HEADER_SIZE + PAYLOAD_SIZE + RANGE_SIZE - 1},
    ),
    Refusal("uapi.ranges-unreadable", "more ranges than are readable", "EFAULT", {"nr_ranges": 4096}),
    Refusal("uapi.ranges-unreadable", "an absurd number of ranges", "ENOMEM", {"nr_ranges": MANY}),
    Refusal("uapi.ranges-unreadable", "the highest number of ranges", "ENOMEM", {"nr_ranges": 0xFFFFFFFF}),
    Refusal("uapi.range", "length 0", "EINVAL", ranges((0, 0))),
    Refusal("uapi.range", "an offset that is not page aligned", "EINVAL", ranges((8, PAGE))),
    Refusal("uapi.range", "a length that is not page aligned", "EINVAL", ranges((0, PAGE - 1))),
    Refusal("uapi.range", "length 0 in the second range", "EINVAL", ranges((0, PAGE), (0, 0))),
    Refusal("uapi.range", "an offset that is not aligned, second", "EINVAL", ranges((0, PAGE), (1, PAGE))),
    Refusal("uapi.range", "a length that is not aligned, second", "EINVAL", ranges((0, PAGE), (0, 1))),
    Refusal("uapi.range", "a sum of 2^64", "EINVAL", ranges((0, U64 - PAGE), (0, PAGE))),
    Refusal("uapi.range", "a sum over 2^64", "EINVAL", ranges((0, U64 - PAGE), (0, 2 * PAGE))),
    Refusal("uapi.range", "a sum of 2^63", "EINVAL", ranges((0, 1 << 63))),
    Refusal("uapi.range", "a sum of two with bit 63", "EINVAL", ranges((0, 1 << 62), (0, 1 << 62))),
    Refusal("uapi.bounds", "an offset that overflows", "EOVERFLOW", ranges((U64 - PAGE, PAGE))),
    Refusal("uapi.bounds", "an offset that overflows, second", "EOVERFLOW", ranges((0, PAGE), (U64 - PAGE, PAGE))),
)
"""In the order of the checks. Region 0 has a page, region 2 is 64-bit; no device here has a ROM or a region 5."""

REFUSALS_OF_ONE_RANGE = (
    *ANY_UAPI,
    Refusal("uapi.operation", "a payload of no bytes", "EINVAL", {"argsz": HEADER_SIZE}),
    Refusal("uapi.operation", "a payload of 23 bytes", "EINVAL", {"argsz": HEADER_SIZE + SINGLE - 1}),
    Refusal("uapi.payload-unreadable", "an unreadable payload", "EFAULT", {"readable": HEADER_SIZE}),
    Refusal(
        "uapi.payload-unreadable", "a payload that ends a byte early", "EFAULT", {"readable": HEADER_SIZE + SINGLE - 1}
    ),
    Refusal("uapi.region", "the ROM", "EINVAL", {"region": 6}),
    Refusal("uapi.region", "config space", "EINVAL", {"region": 7}),
    Refusal("uapi.region", "a region that no PCI device has", "EINVAL", {"region": 9}),
    Refusal("uapi.region", "the highest region index", "EINVAL", {"region": 0xFFFFFFFF}),
    Refusal("uapi.region", "the upper half of a 64-bit BAR", "EINVAL", {"region": 3}),
    Refusal("uapi.region", "an absent BAR", "EINVAL", {"region": 5}),
    Refusal("uapi.range", "an offset that is not page aligned", "EINVAL", ranges((8, PAGE))),
    Refusal("uapi.range", "a length that is not page aligned", "EINVAL", ranges((0, PAGE - 1))),
    Refusal("uapi.bounds", "a length beyond the BAR", "EINVAL", ranges((0, 1 << 40))),
    Refusal("uapi.bounds", "the highest length", "EINVAL", ranges((0, U64 - PAGE))),
    Refusal("uapi.bounds", "the highest offset", "EINVAL", ranges(((1 << 32) - PAGE, PAGE))),
)
"""The same for an export of one range (the series of 2022 to 2024)."""

TABLES = {False: REFUSALS, True: REFUSALS_OF_ONE_RANGE}
"""By whether the uAPI takes a single range."""


def both(first: Refusal, second: Refusal) -> FeatureRequest | None:
    """A request with both things wrong; None where one thing cannot be wrong in both ways.

    Ranges of both go behind each other, the later check's first, so that a check that runs too early meets its own.
    """
    members = {**second.members, **first.members}
    if shared := first.members.keys() & second.members.keys():
        if shared != {"ranges"}:
            return None
        members["ranges"] = second.members["ranges"] + first.members["ranges"]
    return replace(FeatureRequest(), **members)


def pairs() -> Iterator[tuple[Refusal, Refusal, FeatureRequest]]:
    """Two things wrong in one request, of which the first must win; only where the errno tells which did."""
    for first, second in combinations(REFUSALS, 2):
        if first.row != second.row and first.errno != second.errno and (request := both(first, second)):
            yield first, second, request


def check(client: FeatureClient, refusals: list[tuple[object, str, FeatureRequest]]) -> None:
    """Each request gets its errno; the sentence says why."""
    for (sentence, errno, request), outcome in zip(
        refusals, client.request(*(request for _, _, request in refusals)), strict=True
    ):
        must(outcome.errno == errno, str(sentence), f"{outcome} ({request})")


@pytest.fixture
def device_id(session: Session) -> str:
    """The machine's test device, which takes no time to open and to close; without one, the device under test."""
    found = [device.id for device, _ in session.machine.config.walk() if device.type == TEST_DEVICE]
    return found[0] if found else UNDER_TEST


@pytest.fixture
def client(session: Session, device_id: str) -> FeatureClient:
    """Asks that device."""
    return FeatureClient(session, session.open_device(device_id))


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=pytest.mark.contract("uapi", row)) for row in dict.fromkeys(r.row for r in REFUSALS)],
)
def test_refusal(session: Session, client: FeatureClient, row: str) -> None:
    """A request with one thing wrong is refused with the errno of the contract's row."""
    wrong = [refusal for refusal in TABLES[session.export_uapi.single] if refusal.row == row]
    if not wrong:
        pytest.skip("a request in this kernel's export uAPI, of one range, cannot be wrong in this")
    check(client, [(refusal, refusal.errno, refusal.request) for refusal in wrong])


ODD = [(8, PAGE), (PAGE // 2, PAGE), (0, PAGE + 8), (0, PAGE // 2)]
"""Ranges in a BAR of two pages whose bounds are not page aligned."""


def beyond(bar: Bar) -> Iterator[tuple[str, Range]]:
    """Ranges that are refused because they leave the BAR, with their errno."""
    end = bar.size
    for outside in [(0, end + PAGE), (end, PAGE), (end - PAGE, 2 * PAGE)]:
        yield "EINVAL", outside


def overflowing(bar: Bar) -> Iterator[tuple[str, Range]]:
    """Those that leave it for the end of the address space."""
    edge = U64 - bar.start
    yield "EINVAL", (edge - 2 * PAGE, PAGE)
    for outside in [(edge, PAGE), (edge - PAGE, PAGE), (edge - PAGE, 2 * PAGE), (edge - (1 << 62), 1 << 62)]:
        yield "EOVERFLOW", outside


PAST = {False: (beyond, overflowing), True: (beyond,)}
"""By whether the uAPI takes a single range, whose offset then has 32 bits."""


@pytest.mark.contract("uapi", "uapi.bounds", "uapi.range")
def test_bounds(session: Session) -> None:
    """Ranges up to the end of a BAR are exported; a page more, an address space's end, or part of a page is refused."""
    refused: list[tuple[object, str, FeatureRequest]] = []
    client = FeatureClient(session, session.open_device(UNDER_TEST))
    for number, bar in bars(session, UNDER_TEST).items():
        inside = [FeatureRequest(number, ((0, bar.size),)), FeatureRequest(number, ((bar.size - PAGE, PAGE),))]
        for request, outcome in zip(inside, client.request(*inside), strict=True):
            must(
                outcome == RequestOutcome(None, request.ranges[0][1]),
                "up to its end a BAR is exported",
                f"{outcome} ({request})",
            )
        past = [each for rule in PAST[session.export_uapi.single] for each in rule(bar)]
        for first in ((), ((0, PAGE),))[: session.export_uapi.most_ranges]:
            sentence = "a range beyond its BAR is refused with EINVAL, one beyond 2^64 with EOVERFLOW"
            refused += [(sentence, errno, FeatureRequest(number, (*first, outside))) for errno, outside in past]
            sentence = "a range of parts of pages is refused with EINVAL"
            refused += [(sentence, "EINVAL", FeatureRequest(number, (*first, odd))) for odd in ODD]
    check(client, refused)


@MANY_RANGES
@pytest.mark.contract("uapi", "uapi.order")
def test_earlier_check_wins(client: FeatureClient) -> None:
    """Of two things wrong with a request, the one that is checked earlier decides the errno."""
    check(client, [(f"with {second.what} as well, {first}", first.errno, both) for first, second, both in pairs()])


@pytest.mark.contract("uapi", "uapi.operation")
def test_probe(client: FeatureClient) -> None:
    """PROBE gives 0, looks at no payload and exports nothing."""
    probe = FeatureRequest(operation=VFIO_DEVICE_FEATURE_PROBE)
    probes = [
        probe,
        replace(probe, operation=probe.operation | VFIO_DEVICE_FEATURE_GET),
        replace(probe, argsz=8, readable=8, region=9),
    ]
    for request, outcome in zip(probes, client.request(*probes), strict=True):
        must(outcome == RequestOutcome(None, 0), "a probe of the feature gives 0", f"{outcome} ({request})")


@pytest.mark.contract("uapi", "uapi.unbound")
def test_unbound(session: Session) -> None:
    """Until its cdev is bound to an iommufd a device exports nothing, whatever is asked."""
    if session.interface != "cdev":
        pytest.skip("there is no cdev to leave unbound: devices are opened by their group")
    requests = [
        FeatureRequest(),
        FeatureRequest(operation=VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_GET),
        FeatureRequest(readable=0),
    ]
    check(
        open_unbound(session, UNDER_TEST),
        [("a cdev that is not bound refuses every request with EINVAL", "EINVAL", request) for request in requests],
    )


@pytest.mark.contract("uapi", "uapi.no-fd", "around.references")
def test_no_fd(session: Session, device_id: str, client: FeatureClient) -> None:
    """Where no fd is free the export fails with EMFILE, nothing is left of it, and the device is as it was."""
    request = FeatureRequest(ranges=((0, PAGE),) * min(512, session.export_uapi.most_ranges))
    for _ in range(8):
        outcome = client.request_without_fds(request)
        must(outcome.errno == "EMFILE", "an export for which no fd is free fails with EMFILE", outcome)
    must(not (left := session.bufinfo()), "a dma-buf that got no fd is gone", left)
    (outcome,) = client.request(request)
    must(outcome.errno is None, "once an fd is free the same export succeeds", outcome)
    session.reset()
    session.unbind(device_id)


@pytest.mark.contract("uapi", "uapi.no-memory")
def test_no_memory(session: Session, device_id: str, client: FeatureClient, features: Mapping[str, bool]) -> None:
    """Whichever allocation of an export fails, the export is refused with ENOMEM and leaves nothing."""
    if not features["failslab"]:
        pytest.skip("this kernel cannot make allocations fail (CONFIG_FAILSLAB); FLAVOUR=debug can")
    count = min(512, session.export_uapi.most_ranges)
    granted, refused = RequestOutcome(None, count * PAGE), RequestOutcome("ENOMEM")
    *starved, last = client.request_without_memory(FeatureRequest(ranges=((0, PAGE),) * count))
    must(last == granted, "an export of which no allocation fails succeeds", last)
    # A checker of the debug flavour allocates as well, and does without.
    others = [outcome for outcome in starved if outcome not in (granted, refused)]
    must(refused in starved and not others, "an export without memory is refused with ENOMEM", list(map(str, others)))
    must(not (left := session.bufinfo()), "a refused export leaves no dma-buf", left)
    session.reset()
    session.unbind(device_id)


LEAKS = {
    "a range refused": FeatureRequest(ranges=((0, PAGE),) * 4095 + ((0, 0),)),
    "bounds refused": FeatureRequest(ranges=((0, PAGE),) * 4095 + ((0, 1 << 40),)),
    "an export closed": FeatureRequest(ranges=((0, PAGE),) * 4096),
}
TIMES = 256
ARRAY = 4096 * RANGE_SIZE  # bytes of the smaller of the two arrays that a request of 4096 ranges has


@MANY_RANGES
@pytest.mark.contract("uapi", "around.memory")
def test_no_memory_lost(client: FeatureClient) -> None:
    """What the kernel allocates for a request is given back, whether it is refused or granted."""
    for what, request in LEAKS.items():
        before = client.slab()
        client.request(request, times=TIMES)
        grown = client.slab() - before
        must(
            grown < TIMES * ARRAY / 2, f"after {what} {TIMES} times the kernel's memory is back", f"{grown} bytes more"
        )
