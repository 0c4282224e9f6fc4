# SPDX-License-Identifier: GPL-2.0-only
"""Random export requests, with and without errors. The same seed makes the same requests."""

from dataclasses import replace

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from harness.cases.constants import PAGE, U64
from harness.cases.uapi_model import Bars
from harness.session.feature_request import HEADER_SIZE, PAYLOAD_SIZE, VFIO_DEVICE_FEATURE_GET, FeatureRequest

U32 = (1 << 32) - 1
EDGES = [0, 1, PAGE - 1, PAGE, 1 << 62, 1 << 63, U64 - PAGE, U64 - 1]
"""Offsets and lengths at which arithmetic may overflow."""

BATCH = 20
"""Requests in one hypothesis example: its overhead is per example."""


@st.composite
def requests(draw: st.DrawFn, bars: Bars) -> FeatureRequest:
    """Draw a request to a device with these BARs. Most members are right, so that many pass the first checks."""

    def wrong(one_in: int) -> bool:
        return draw(st.integers(1, one_in)) == one_in

    def number(*options: int, upto: int) -> int:
        return draw(st.sampled_from(options) | st.integers(0, upto))

    def page_or_edge(upto: int) -> int:
        return draw(st.sampled_from(edges) | st.integers(0, upto // PAGE).map(lambda page: page * PAGE))

    region = number(6, 7, 8, 9, *range(6), upto=U32) if wrong(12) else draw(st.sampled_from(sorted(bars)))
    bar = bars.get(region) or next(iter(bars.values()))
    pages = max(bar.size // PAGE, 1)
    edges = (*EDGES, bar.size, bar.size + PAGE, U64 - bar.start, U64 - bar.start - PAGE)
    ranges = []
    for _ in range(draw(st.integers(1, 4))):
        first = draw(st.integers(0, pages - 1))
        count = draw(st.integers(1, pages - first))
        ranges.append((page_or_edge(U64 - 1), page_or_edge(1 << 62)) if wrong(6) else (first * PAGE, count * PAGE))
    request = FeatureRequest(
        region,
        tuple(ranges),
        flags=number(1, upto=U32) if wrong(20) else 0,
        operation=draw(st.integers(0, 8)) << 16 if wrong(12) else VFIO_DEVICE_FEATURE_GET,
        nr_ranges=number(0, 1, 5, 1 << 20, U32, upto=5) if wrong(12) else None,
        argsz=number(0, HEADER_SIZE, upto=HEADER_SIZE + PAYLOAD_SIZE - 1) if wrong(20) else None,
    )
    readable = draw(st.integers(0, request.length)) if wrong(12) else None
    return replace(request, readable=readable)


def sample(bars: Bars, count: int, seeded: int) -> list[FeatureRequest]:
    """Draw about ``count`` different requests from the random seed ``seeded``."""
    drawn: dict[FeatureRequest, None] = {}

    @seed(seeded)
    @settings(
        max_examples=count // BATCH, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.lists(requests(bars), min_size=BATCH, max_size=BATCH))
    def draw(some: list[FeatureRequest]) -> None:
        drawn.update(dict.fromkeys(some))

    draw()
    return list(drawn)
