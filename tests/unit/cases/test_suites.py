# SPDX-License-Identifier: GPL-2.0-only
import pytest

from harness.cases import suites
from harness.errors import UsageError


def test_a_case_is_of_the_first_suite_that_names_it() -> None:
    known = suites.suites()
    assert suites.suite_of("test_stress::test_close_against_reset[iommufd+nvme]", known) == "stress"
    assert suites.suite_of("test_doorbell::test_doorbell[rxe]", known) == suites.DEFAULT_SUITE


def test_what_no_suite_names_is_an_error() -> None:
    stress = {"stress": suites.suites()["stress"]}
    with pytest.raises(UsageError, match=r"suites.yaml: no suite has the case test_doorbell::test_doorbell\[rxe\]"):
        suites.suite_of("test_doorbell::test_doorbell[rxe]", stress)


def test_an_unknown_suite_comes_with_the_nearest() -> None:
    error = suites.unknown("stres", suites.suites())
    assert "did you mean 'stress'?" in str(error)
    assert error.hint == "suites: stress, default"
