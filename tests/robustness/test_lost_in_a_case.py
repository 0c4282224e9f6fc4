# SPDX-License-Identifier: GPL-2.0-only
"""Lose a part of the machine during a case: the case gets its verdict and evidence, the next one a working machine."""

import re

import pytest
from commandline import CASES, CommandLine, Finished

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
    "want_memory": ("PASS", ""),  # the guest's kernel kills the process that allocates too much, and no other
    "keep_memory": ("ERROR", r"the guest ran out of memory: (Kernel panic|Out of memory: Killed process)"),
    "raise_nonsense": ("ERROR", r"ValueError: nonsense"),
}
"""Each damage of cases/damage.py, with the verdict and the reason that it must give."""

EVIDENCE = {
    "kill_qemu": "vfio-harness: ready",
    "panic": "sysrq: Trigger a crash",
    "reset": "vfio-harness: ready",
    "stop_vcpus": "QEMU's run state: paused",
    "raise_nonsense": "Device.export",
}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory, default_kernel: Kernel) -> Finished:
    """Run all of them once."""
    return CommandLine(tmp_path_factory.mktemp("damaged"))("run", "--jobs=1", CASES / "damage.py")


@pytest.mark.parametrize("damage", ENDS)
def test_loss_has_its_verdict(damaged: Finished, damage: str) -> None:
    verdict, reason = ENDS[damage]
    case = damaged.cases()[f"test_during[{damage}]"]
    assert re.fullmatch(verdict, case["verdict"])
    assert re.match(reason, case["reason"])
    assert EVIDENCE.get(damage, "dmabuf.bufinfo()") in "\n".join(item["text"] for item in case["evidence"])


def test_next_case_finds_a_machine_that_works(damaged: Finished) -> None:
    after = {name: verdict for name, verdict in damaged.verdicts().items() if name.startswith("test_after")}
    assert after == {f"test_after[iommufd+nvme-{damage}]": "PASS" for damage in ENDS}


def test_exit_code_blames_the_kernel_if_one_case_does(damaged: Finished) -> None:
    assert damaged.code == 1


def test_exit_code_if_only_the_harness_failed(harness: CommandLine) -> None:
    outcome = harness("run", CASES / "damage.py", "-k", "raise_nonsense or kill_agent")
    assert sorted(outcome.verdicts().values()) == ["ERROR", "ERROR", "PASS", "PASS"]
    assert outcome.code == 3


MIDDLE = {
    "kill_qemu": r"QEMU is gone: pid \d+, killed by SIGKILL",
    "cut_ssh": r"the guest agent ended, or SSH did|the SSH connection",
    "keep_memory": r"the guest ran out of memory|the guest agent ended",
    "reset_from_outside": r"the machine was reset from outside",
}
"""Each trouble of cases/middle.py, with its reason."""


@pytest.fixture(scope="module")
def in_the_middle(tmp_path_factory: pytest.TempPathFactory, default_kernel: Kernel) -> Finished:
    """Run all of them once."""
    return CommandLine(tmp_path_factory.mktemp("middle"))("run", CASES / "middle.py")


@pytest.mark.parametrize("kind", ["iommufd", "rxe", "dma-api", "waiting"])
@pytest.mark.parametrize("trouble", MIDDLE)
def test_trouble_of_the_host_is_an_error_in_every_case(in_the_middle: Finished, trouble: str, kind: str) -> None:
    case = in_the_middle.cases()[f"test_middle[{trouble}-{kind}]"]
    assert (case["verdict"], in_the_middle.code) == ("ERROR", 3), case["reason"]
    assert re.match(MIDDLE[trouble], case["reason"])
