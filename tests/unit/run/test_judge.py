# SPDX-License-Identifier: GPL-2.0-only
"""The verdict of exceptions and splats: a failure of the harness never blames the kernel, and never passes it."""

import errno

import pytest

from harness.cases.must import ContractBroken, must, must_fail
from harness.errors import (
    AgentLost,
    CapabilityMissing,
    GuestCrashed,
    GuestHung,
    GuestOopsed,
    KernelErrno,
    LaunchError,
    QemuDied,
)
from harness.run.judge import Skipped, judge
from harness.verdict import WORST_FIRST, Verdict, exit_code


@pytest.mark.parametrize(
    ("exc", "verdict"),
    [
        (ContractBroken("broken: x"), Verdict.FAIL),
        (KernelErrno("VFIO_DEVICE_RESET", errno.EIO), Verdict.FAIL),
        (GuestCrashed("panic"), Verdict.CRASH),
        (GuestHung("deadline"), Verdict.HANG),
        (GuestOopsed("no answer since an oops"), Verdict.SPLAT),
        (QemuDied("signal 9"), Verdict.ERROR),
        (LaunchError("no"), Verdict.ERROR),
        (AgentLost("cut"), Verdict.ERROR),
        (OSError(errno.ENOSPC, "no space"), Verdict.ERROR),
        (KeyError("a defect of a case"), Verdict.ERROR),
        (AssertionError("a defect of the harness"), Verdict.ERROR),
        (Skipped("no rxe"), Verdict.SKIP),
        (CapabilityMissing("one range"), Verdict.SKIP),
    ],
)
def test_blame(exc: BaseException, verdict: Verdict) -> None:
    assert judge([exc], []).verdict is verdict


def test_nothing_raised_is_a_pass() -> None:
    assert judge([], []).verdict is Verdict.PASS


def test_a_splat_outranks_a_broken_rule_and_hides_no_reason() -> None:
    judged = judge([ContractBroken("broken: dead for good")], ["WARNING in vfio_pci_dma_buf_move"])
    assert judged.verdict is Verdict.SPLAT
    assert "WARNING in vfio_pci_dma_buf_move" in judged.reason
    assert "dead for good" in judged.reason


def test_a_harness_failure_in_teardown_does_not_hide_a_broken_contract() -> None:
    assert judge([ContractBroken("broken: x"), AgentLost("cut")], []).verdict is Verdict.FAIL


def test_the_worst_reason_gives_the_verdict_and_comes_first() -> None:
    judged = judge([AgentLost("cut"), ContractBroken("broken: x"), GuestCrashed("panic")], [])
    assert judged.verdict is Verdict.CRASH
    assert judged.reasons == ("panic", "broken: x", "cut")


def test_each_verdict_has_one_place_in_the_order() -> None:
    assert sorted(WORST_FIRST) == sorted(Verdict)


def test_must_names_the_rule_and_the_observation() -> None:
    with pytest.raises(ContractBroken, match="broken: revoked; seen: alive"):
        must(False, "revoked", "alive")
    must(True, "revoked")


def test_must_fail_accepts_exactly_one_errno() -> None:
    with must_fail("ENODEV", "a revoked buffer refuses a map"):
        raise KernelErrno("IOMMU_IOAS_MAP_FILE", errno.ENODEV)
    with pytest.raises(ContractBroken, match="gave EINVAL, not ENODEV"), must_fail("ENODEV", "refused"):
        raise KernelErrno("IOMMU_IOAS_MAP_FILE", errno.EINVAL)
    with pytest.raises(ContractBroken, match="accepted"), must_fail("ENODEV", "refused"):
        pass


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([], 0),
        ([Verdict.PASS, Verdict.SKIP, Verdict.KNOWN, Verdict.FIXED], 0),
        ([Verdict.PASS, Verdict.ERROR], 3),
        ([Verdict.ERROR, Verdict.HANG], 1),
    ],
)
def test_exit_code(verdicts: list[Verdict], code: int) -> None:
    assert exit_code(verdicts) == code


def test_an_oops_comes_before_the_call_that_it_ended() -> None:
    judged = judge([GuestOopsed("close: no answer since an oops")], ["NULL pointer dereference in f"])
    assert judged.reason == "NULL pointer dereference in f; also close: no answer since an oops"
