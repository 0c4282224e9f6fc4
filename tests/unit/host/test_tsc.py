# SPDX-License-Identifier: GPL-2.0-only
"""The measured rate of the TSC."""

import platform

import pytest

from harness.host.tsc import tsc_khz


@pytest.mark.skipif(platform.machine() != "x86_64", reason="this processor has no TSC")
def test_two_measurements_agree() -> None:
    first = tsc_khz()
    tsc_khz.cache_clear()
    second = tsc_khz()
    if first is None or second is None:
        pytest.skip("this host forbids executable memory")
    assert 100_000 < first < 10_000_000
    assert abs(first - second) < first / 1000
