# SPDX-License-Identifier: GPL-2.0-only
"""The first suite that names a case is its suite."""

import pytest

from harness.cases import suites
from harness.errors import UsageError


def test_a_case_belongs_to_the_first_suite_that_names_it() -> None:
    known = suites.suites()
    assert suites.suite_of("test_stress::test_close_against_reset[iommufd+nvme]", known) == "stress"
    assert suites.suite_of("test_model::test_programs[1]", known) == suites.MODEL_SUITE
    assert suites.suite_of("test_doorbell::test_doorbell[rxe]", known) == suites.DEFAULT_SUITE


def test_a_case_without_a_suite_is_an_error() -> None:
    stress = {"stress": suites.suites()["stress"]}
    with pytest.raises(UsageError, match=r"suites.yaml: no suite has the case test_doorbell::test_doorbell\[rxe\]"):
        suites.suite_of("test_doorbell::test_doorbell[rxe]", stress)


def test_the_error_for_an_unknown_suite_names_the_nearest() -> None:
    error = suites.unknown("stres", suites.suites())
    assert "did you mean 'stress'?" in str(error)
    assert error.hint == "suites: stress, model, kselftest-vfio, kselftest-iommu, rdma-core, default"
