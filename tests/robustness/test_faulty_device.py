# SPDX-License-Identifier: GPL-2.0-only
"""A vfio-user device that answers at random: whatever it says, no case blames the kernel, and none passes by it."""

import json
import time
from datetime import datetime
from pathlib import Path

import pytest
from commandline import CommandLine, Finished

MACHINE = """\
purpose: A machine whose exporter is faulty.
extends: vfio-user
devices:
  - type: pcie-root-port
    id: rp-nvme0
    properties: {{x-speed: "2_5", x-width: "1"}}
    devices:
      - type: vfio-user-pci
        id: nvme0
        role: under-test
        drive: {{size_mib: 64}}
        vfio_user: {{model: random-{seed}}}
"""
CASES = "(test_doorbell_reaches or test_cmb_write or test_remote_io) and (rxe or iommufd+edu)"
"""Cases that need right answers of the device: doorbells and completions, memory, and whole commands."""
FROM_THE_START, LATER = (2, 3, 19), (4, 8, 5)
"""Seeds that go wrong in the self-checks of the boot, and seeds that begin later. 3 and 8 also do so in config space;
19 and 5 also answer late, so that the guest hangs, complains or does not boot."""
FAULTS = {"FAIL", "SPLAT", "HANG", "CRASH"}


def faults(outcome: Finished) -> list[float]:
    """Return when the device went wrong, in Unix time."""
    offset = time.time() - time.monotonic()
    found = []
    for log in sorted(outcome.results.glob("[0-9]*/machine-*/nvme0.device.jsonl")):
        events = map(json.loads, log.read_text().splitlines())
        found += [event["t"] + offset for event in events if event["event"] == "wrong"]
    return found


def run(harness: CommandLine, tmp_path: Path, seed: int) -> Finished:
    file = tmp_path / f"random-{seed}.yaml"
    file.write_text(MACHINE.format(seed=seed))
    return harness("run", "--machine", file, "--jobs=1", "-k", CASES)


@pytest.mark.parametrize("seed", FROM_THE_START)
def test_a_device_that_is_always_faulty_gives_only_errors(harness: CommandLine, tmp_path: Path, seed: int) -> None:
    outcome = run(harness, tmp_path, seed)
    assert set(outcome.verdicts().values()) <= {"ERROR", "SKIP"}, outcome.output
    assert outcome.code == 3
    assert faults(outcome)


@pytest.mark.parametrize("seed", LATER)
def test_a_device_that_becomes_faulty_decides_no_verdict(harness: CommandLine, tmp_path: Path, seed: int) -> None:
    outcome = run(harness, tmp_path, seed)
    assert not FAULTS & set(outcome.verdicts().values()), outcome.output
    assert outcome.code == 3, "it has gone wrong in some case"
    wrong = faults(outcome)
    assert wrong
    for name, case in outcome.cases().items():
        if case["verdict"] == "PASS":
            began = datetime.fromisoformat(case["started"]).timestamp()
            during = [each for each in wrong if began <= each <= began + case["duration_s"]]
            assert not during, f"{name} passed in spite of {len(during)} faults"
