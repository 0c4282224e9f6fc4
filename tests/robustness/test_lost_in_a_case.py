# SPDX-License-Identifier: GPL-2.0-only
"""What is lost while a case runs: each loss has its verdict, with evidence, and the next case a machine that works."""

import re

import pytest
from commandline import CASES, CommandLine, Outcome

from harness.kernel import Kernel

ENDS = {
    "kill_qemu": ("ERROR", r"QEMU is gone: pid \d+, killed by SIGKILL"),
    "panic": ("CRASH", r"Kernel panic - not syncing: sysrq triggered crash"),
    "reset": ("CRASH", r"the guest reset by itself \(guest-reset\)"),
    "reset_from_outside": ("ERROR", r"the machine was reset from outside \(host-qmp-system-reset\)"),
    "stop_vcpus": ("HANG", r"bufinfo in the guest: no answer within \d+\.\d s"),
    "cut_ssh": ("ERROR", r"the guest agent ended, or SSH did: no exit status came"),
    "kill_ssh_server": ("ERROR", r"the guest agent ended, or SSH did: no exit status came"),
    "kill_agent": ("ERROR", r"the guest agent ended"),
    "want_memory": ("PASS", ""),  # the guest's kernel kills who wants too much, and nobody else
    "keep_memory": ("ERROR", r"the guest ran out of memory: Kernel panic|the guest agent ended"),
    "raise_nonsense": ("ERROR", r"ValueError: nonsense"),
}
"""damage.py's acts: verdict and reason."""

EVIDENCE = {
    "kill_qemu": "vfio-harness: ready",
    "panic": "sysrq: Trigger a crash",
    "reset": "vfio-harness: ready",
    "stop_vcpus": "QEMU's run state: paused",
    "raise_nonsense": "Device.export",
}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory, default_kernel: Kernel) -> Outcome:
    """One run of all of them."""
    return CommandLine(tmp_path_factory.mktemp("damaged"))("run", "--jobs=1", CASES / "damage.py")


@pytest.mark.parametrize("damage", ENDS)
def test_loss_has_its_verdict(damaged: Outcome, damage: str) -> None:
    verdict, reason = ENDS[damage]
    case = damaged.cases()[f"test_during[{damage}]"]
    assert re.fullmatch(verdict, case["verdict"])
    assert re.match(reason, case["reason"])
    assert EVIDENCE.get(damage, "dmabuf.bufinfo()") in "\n".join(item["text"] for item in case["evidence"])


def test_next_case_finds_a_machine_that_works(damaged: Outcome) -> None:
    after = {name: verdict for name, verdict in damaged.verdicts().items() if name.startswith("test_after")}
    assert after == {f"test_after[iommufd+nvme-{damage}]": "PASS" for damage in ENDS}


def test_exit_code_blames_the_kernel_where_one_case_does(damaged: Outcome) -> None:
    assert damaged.code == 1


def test_exit_code_where_only_the_harness_failed(harness: CommandLine) -> None:
    outcome = harness("run", CASES / "damage.py", "-k", "raise_nonsense or kill_agent")
    assert sorted(outcome.verdicts().values()) == ["ERROR", "ERROR", "PASS", "PASS"]
    assert outcome.code == 3


MIDDLE = {
    "kill_qemu": r"QEMU is gone: pid \d+, killed by SIGKILL",
    "cut_ssh": r"the guest agent ended, or SSH did|the SSH connection",
    "keep_memory": r"the guest ran out of memory|the guest agent ended",
    "reset_from_outside": r"the machine was reset from outside",
}
"""middle.py's troubles, and what is said of each."""


@pytest.fixture(scope="module")
def in_the_middle(tmp_path_factory: pytest.TempPathFactory, default_kernel: Kernel) -> Outcome:
    """One run of all of them."""
    return CommandLine(tmp_path_factory.mktemp("middle"))("run", CASES / "middle.py")


@pytest.mark.parametrize("kind", ["iommufd", "rxe", "dma-api", "waiting"])
@pytest.mark.parametrize("trouble", MIDDLE)
def test_trouble_is_ours_whatever_the_case_is_at(in_the_middle: Outcome, trouble: str, kind: str) -> None:
    case = in_the_middle.cases()[f"test_middle[{trouble}-{kind}]"]
    assert (case["verdict"], in_the_middle.code) == ("ERROR", 3), case["reason"]
    assert re.match(MIDDLE[trouble], case["reason"])
