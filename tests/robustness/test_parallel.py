# SPDX-License-Identifier: GPL-2.0-only
"""Run several machines at once. Losing one machine, or the process that drives it, does not affect the others."""

from commandline import CASES, CommandLine
from test_interrupted import STAY, WAYS, interrupt

TWO = ("run", "--jobs", "2")
PANICS, DIES, NUMBER = 3, 6, 12
"""cases/many.py: the case that loses its machine, the case that loses its process, and the number of cases."""


def test_interrupted_in_two_cases(harness: CommandLine) -> None:
    """Nothing of either machine is left."""
    for way in WAYS:
        with harness.start(*TWO, STAY, "-k", "stay and iommufd") as running:
            running.wait_for_line("in the case")
            running.wait_for_line("in the case")
            assert sum("qemu-system" in command for command in harness.processes().values()) == 2
            interrupt(running, way)


def test_lost_machine_and_lost_process(harness: CommandLine) -> None:
    """Each loss costs its own case and a fresh machine. The worst verdict gives the exit code."""
    outcome = harness(*TWO, CASES / "many.py")
    cases = [outcome.cases()[f"test_many[{number}]"] for number in range(NUMBER)]
    assert list(outcome.cases().values()) == cases
    bad = {PANICS: "CRASH", DIES: "ERROR"}
    assert [case["verdict"] for case in cases] == [bad.get(number, "PASS") for number in range(NUMBER)]
    assert cases[DIES]["reason"] == "the process that ran the case is gone: killed by SIGKILL"
    assert cases[PANICS]["ran_in"] not in {case["ran_in"] for case in cases[PANICS + 1 :]}
    machines = {path.name for path in (outcome.results / "latest").iterdir() if path.is_dir()}
    assert {case["ran_in"] for case in cases} - {None} <= machines
    assert len(machines) <= 2 + len(bad)
    assert outcome.code == 1


def test_lost_process_alone_is_an_error(harness: CommandLine) -> None:
    outcome = harness(*TWO, CASES / "many.py", "-k", "6 or 7 or 8")
    assert list(outcome.verdicts().values()) == ["ERROR", "PASS", "PASS"]
    assert outcome.code == 3


def test_fail_fast(harness: CommandLine) -> None:
    """When a case fails, the run does not wait for the cases that still run, and does not judge them."""
    outcome = harness(*TWO, "-x", CASES / "many.py", "-k", "3 or 4 or 5 or 7 or 8 or 9")
    verdicts = list(outcome.verdicts().values())
    assert verdicts.count("CRASH") == 1
    assert outcome.code == 1


def test_one_case_boots_one_machine(harness: CommandLine) -> None:
    outcome = harness(*TWO, CASES / "many.py", "-k", "4")
    assert list(outcome.verdicts().values()) == ["PASS"]
    assert [path.name for path in (outcome.results / "latest").glob("machine-*")] == ["machine-1"]
