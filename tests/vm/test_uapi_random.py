# SPDX-License-Identifier: GPL-2.0-only
"""Random requests: the kernel answers as the model of the contract does."""

import pytest

from harness.cases.constants import UNDER_TEST
from harness.cases.must import must
from harness.cases.uapi_model import predict
from harness.cases.uapi_random import sample
from harness.session import Session
from harness.session.feature_request import FeatureClient, bars

SEED, COUNT = 1, 400


@pytest.mark.needs("many_ranges")
@pytest.mark.contract("uapi", "uapi.order", "uapi.accepted")
def test_random_requests(session: Session) -> None:
    """The kernel refuses and accepts random requests as the contract says."""
    found = bars(session, UNDER_TEST)
    requests = sample(found, COUNT, SEED)
    outcomes = FeatureClient(session, session.open_device(UNDER_TEST)).request(*requests)
    for request, outcome in zip(requests, outcomes, strict=True):
        expected = predict(request, found)
        must(outcome == expected, f"a random request (seed {SEED}) gets {expected}", f"{outcome} ({request})")
    must(not (left := session.bufinfo()), "no request leaves a dma-buf", left)
