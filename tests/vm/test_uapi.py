# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's checks of an export request, each alone and in their order."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import pytest

from harness.cases.constants import PAGE, U64, UNDER_TEST
from harness.cases.marks import rows_in
from harness.cases.must import must, must_fail
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

rows = rows_in("uapi")
many_ranges = pytest.mark.needs("many_ranges")

SINGLE = 24
"""Bytes of the payload of an export of one range."""
MANY = 1 << 20
"""Ranges: an array of 16 MiB, more than one allocation can give."""


@dataclass(frozen=True)
class Refusal:
    """A request with one error, and the errno that it must get."""

    row: str
    """The row of the contract."""
    what: str
    """The error, as a noun."""
    errno: str
    members: dict[str, Any] = field(default_factory=dict)
    """The members of the request that make the error."""

    @property
    def request(self) -> FeatureRequest:
        """The request, correct except for the error."""
        return FeatureRequest(**self.members)

    def __str__(self) -> str:
        """For the sentence of a verdict."""
        return f"{self.what} is refused with {self.errno}"


def ranges(*pairs: tuple[int, int]) -> dict[str, Any]:
    """Make the member ``ranges``."""
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
"""Errors before the payload, the same in every uAPI."""

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
    """Make a request with both errors; None if both set the same member.

    The ranges of both are concatenated, those of the later check first, so that a check that runs too early finds its
    own error.
    """
    members = {**second.members, **first.members}
    if shared := first.members.keys() & second.members.keys():
        if shared != {"ranges"}:
            return None
        members["ranges"] = second.members["ranges"] + first.members["ranges"]
    return replace(FeatureRequest(), **members)


def pairs() -> Iterator[tuple[Refusal, Refusal, FeatureRequest]]:
    """Pairs of errors with the request that has both. Only pairs with different errnos, which show which check won."""
    for first, second in combinations(REFUSALS, 2):
        if first.row != second.row and first.errno != second.errno and (request := both(first, second)):
            yield first, second, request


def must_refuse(client: FeatureClient, refusals: list[tuple[str, str, FeatureRequest]]) -> None:
    """State for each (sentence, errno, request) that the kernel refuses the request with the errno."""
    outcomes = client.request(*(request for _, _, request in refusals))
    for (sentence, errno, request), outcome in zip(refusals, outcomes, strict=True):
        must(outcome.errno == errno, sentence, f"{outcome} ({request})")


@pytest.fixture
def device_id(pci_testdev: str | None) -> str:
    """The machine's pci-testdev, because it opens and closes fast; else the device under test."""
    return pci_testdev or UNDER_TEST


@pytest.fixture
def client(session: Session, device_id: str) -> FeatureClient:
    """Requests exports from that device."""
    return FeatureClient(session, session.open_device(device_id))


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=rows(row)) for row in dict.fromkeys(refusal.row for refusal in REFUSALS)],
)
def test_refusal(session: Session, client: FeatureClient, row: str) -> None:
    """A request with one error is refused with the errno of the contract's row."""
    refusals = [refusal for refusal in TABLES[session.export_uapi.single] if refusal.row == row]
    if not refusals:
        pytest.skip("a request in this kernel's export uAPI, of one range, cannot have this error")
    must_refuse(client, [(str(refusal), refusal.errno, refusal.request) for refusal in refusals])


ODD = [(8, PAGE), (PAGE // 2, PAGE), (0, PAGE + 8), (0, PAGE // 2)]
"""Ranges in a BAR of two pages that begin or end within a page."""


def beyond(bar: Bar) -> Iterator[tuple[str, Range]]:
    """Ranges that end beyond the BAR, with their errno."""
    end = bar.size
    for outside in [(0, end + PAGE), (end, PAGE), (end - PAGE, 2 * PAGE)]:
        yield "EINVAL", outside


def overflowing(bar: Bar) -> Iterator[tuple[str, Range]]:
    """Ranges at the end of the address space, with their errno."""
    edge = U64 - bar.start
    yield "EINVAL", (edge - 2 * PAGE, PAGE)
    for outside in [(edge, PAGE), (edge - PAGE, PAGE), (edge - PAGE, 2 * PAGE), (edge - (1 << 62), 1 << 62)]:
        yield "EOVERFLOW", outside


OUTSIDE = {False: (beyond, overflowing), True: (beyond,)}
"""By whether the uAPI takes a single range; its offset then has 32 bits."""


@rows("uapi.bounds", "uapi.range")
def test_bounds(session: Session) -> None:
    """Whole pages up to the end of a BAR are exported; anything beyond it, and parts of pages, are refused."""
    refused: list[tuple[str, str, FeatureRequest]] = []
    client = FeatureClient(session, session.open_device(UNDER_TEST))
    for number, bar in bars(session, UNDER_TEST).items():
        inside = [FeatureRequest(number, ((0, bar.size),)), FeatureRequest(number, ((bar.size - PAGE, PAGE),))]
        for request, outcome in zip(inside, client.request(*inside), strict=True):
            expected = RequestOutcome(None, request.ranges[0][1])
            must(outcome == expected, "a BAR is exported up to its end", f"{outcome} ({request})")
        outside = [each for rule in OUTSIDE[session.export_uapi.single] for each in rule(bar)]
        for first in ((), ((0, PAGE),))[: session.export_uapi.most_ranges]:
            sentence = "a range beyond its BAR is refused with EINVAL, one beyond 2^64 with EOVERFLOW"
            refused += [(sentence, errno, FeatureRequest(number, (*first, range_))) for errno, range_ in outside]
            sentence = "a range that begins or ends within a page is refused with EINVAL"
            refused += [(sentence, "EINVAL", FeatureRequest(number, (*first, odd))) for odd in ODD]
    must_refuse(client, refused)


@many_ranges
@rows("uapi.order")
def test_earlier_check_wins(client: FeatureClient) -> None:
    """Of two errors in a request, the earlier check decides the errno."""
    must_refuse(
        client, [(f"with {second.what} as well, {first}", first.errno, request) for first, second, request in pairs()]
    )


@rows("uapi.operation")
def test_probe(client: FeatureClient) -> None:
    """PROBE returns 0, reads no payload and exports nothing."""
    probe = FeatureRequest(operation=VFIO_DEVICE_FEATURE_PROBE)
    probes = [
        probe,
        replace(probe, operation=probe.operation | VFIO_DEVICE_FEATURE_GET),
        replace(probe, argsz=8, readable=8, region=9),
    ]
    for request, outcome in zip(probes, client.request(*probes), strict=True):
        must(outcome == RequestOutcome(None, 0), "a probe of the feature returns 0", f"{outcome} ({request})")


@rows("uapi.unbound")
def test_unbound(session: Session) -> None:
    """A device whose cdev is not bound to an iommufd refuses every request."""
    if session.interface != "cdev":
        pytest.skip("devices are opened by their group, so no cdev can be left unbound")
    requests = [
        FeatureRequest(),
        FeatureRequest(operation=VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_GET),
        FeatureRequest(readable=0),
    ]
    sentence = "a cdev that is not bound refuses every request with EINVAL"
    must_refuse(open_unbound(session, UNDER_TEST), [(sentence, "EINVAL", request) for request in requests])


@rows("uapi.no-fd", "around.references")
def test_no_fd(session: Session, device_id: str, client: FeatureClient) -> None:
    """An export for which no fd is free fails with EMFILE, leaves nothing, and does not harm the device."""
    request = FeatureRequest(ranges=((0, PAGE),) * min(512, session.export_uapi.most_ranges))
    for _ in range(8):
        outcome = client.request_without_fds(request)
        must(outcome.errno == "EMFILE", "an export for which no fd is free fails with EMFILE", outcome)
    must(not (left := session.bufinfo()), "a dma-buf that got no fd is gone", left)
    (outcome,) = client.request(request)
    must(outcome.errno is None, "once an fd is free the same export succeeds", outcome)
    session.reset()
    session.unbind(device_id)


@rows("uapi.no-file", "around.references")
def test_no_file(session: Session, device_id: str) -> None:
    """An export by an ordinary user fails with ENFILE while the system has no free file, and leaves nothing."""
    device, process = session.open_device(device_id), session.fork()
    process.drop_privileges()
    heir = process.copy_of(device)
    with session.without_files():
        for _ in range(4):
            with must_fail("ENFILE", "an export for which the system has no free file fails"):
                heir.export(0, [(0, PAGE)])
    must(not (left := session.bufinfo()), "an export that got no file leaves no dma-buf", left)
    heir.export(0, [(0, PAGE)]).close()


@pytest.mark.needs("failslab")
@rows("uapi.no-memory")
def test_no_memory(session: Session, device_id: str, client: FeatureClient) -> None:
    """If any allocation of an export fails, it is refused with ENOMEM, and leaves nothing."""
    count = min(512, session.export_uapi.most_ranges)
    granted, refused = RequestOutcome(None, count * PAGE), RequestOutcome("ENOMEM")
    *starved, last = client.request_without_memory(FeatureRequest(ranges=((0, PAGE),) * count))
    must(last == granted, "an export of which no allocation fails succeeds", last)
    # The debug flavour's checkers allocate too; if that fails the export still succeeds.
    others = [outcome for outcome in starved if outcome not in (granted, refused)]
    must(refused in starved and not others, "an export without memory is refused with ENOMEM", list(map(str, others)))
    must(not (left := session.bufinfo()), "a refused export leaves no dma-buf", left)
    session.reset()
    session.unbind(device_id)


LEAKS = {
    "an export refused for a range": FeatureRequest(ranges=((0, PAGE),) * 4095 + ((0, 0),)),
    "an export refused for its bounds": FeatureRequest(ranges=((0, PAGE),) * 4095 + ((0, 1 << 40),)),
    "an export granted and closed": FeatureRequest(ranges=((0, PAGE),) * 4096),
}
TIMES = 256
ARRAY = 4096 * RANGE_SIZE
"""Bytes of the smaller of the two arrays that a request of 4096 ranges needs."""


@many_ranges
@rows("around.memory")
def test_no_memory_lost(client: FeatureClient) -> None:
    """The kernel frees what it allocates for a request, whether it refuses or grants it."""
    for what, request in LEAKS.items():
        before = client.slab()
        client.request(request, times=TIMES)
        grown = client.slab() - before
        sentence = f"{what} {TIMES} times leaves no kernel memory allocated"
        must(grown < TIMES * ARRAY / 2, sentence, f"{grown} bytes more")
