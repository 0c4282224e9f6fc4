# SPDX-License-Identifier: GPL-2.0-only
"""The check of capabilities: a case is skipped for what machine or kernel lacks, and for nothing else."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.errors import UsageError
from harness.kernel import RxeSupport
from harness.run.setup import Setup

FEATURES = {"iommufd": True, "rxe": False, "many_ranges": False, "test_importer": False}


def setup(lacks: dict[str, str] | None = None) -> Setup:
    kernel = SimpleNamespace(features=FEATURES, rxe=RxeSupport("absent", "no source"), importer_absent="no headers")
    machine = SimpleNamespace(name="mine", lacks=lacks or {})
    return Setup(*cast(list[Any], [None, machine, None, None, kernel, None, None, None]))


def test_a_capability_that_both_have_is_no_reason() -> None:
    assert setup().lacks("iommufd") == ""
    assert setup().lacks("dma-api") == "", "of the machine alone"


def test_the_machine_says_why_it_lacks_one() -> None:
    assert setup({"dma-api": "no device"}).lacks("dma-api") == "mine lacks dma-api: no device"


def test_the_machine_is_asked_first() -> None:
    assert setup({"rxe": "no NIC"}).lacks("rxe") == "mine lacks rxe: no NIC"


@pytest.mark.parametrize(
    ("capability", "reason"),
    [
        ("rxe", "this kernel lacks rxe: its rxe has no dma-buf MRs: no source"),
        ("test_importer", "this kernel lacks test_importer: no headers"),
        ("many_ranges", "this kernel lacks many_ranges: "),
    ],
)
def test_the_kernel_says_why_it_lacks_one(capability: str, reason: str) -> None:
    assert setup().lacks(capability).startswith(reason)


def test_an_unknown_capability_is_refused() -> None:
    with pytest.raises(UsageError, match="'rxee'"):
        setup().lacks("rxee")
