# SPDX-License-Identifier: GPL-2.0-only
"""Which machines reach the state in which a mutation of machine vfio-user makes a difference.

A patched kernel logs each such state. On a machine that logs none, the mutant is the kernel itself, so no case can
notice it. That is what ``survives_on`` of an entry says. About two minutes for each machine.
"""

import re
from pathlib import Path

import pytest
from commandline import CommandLine

from harness.bugs import load_bugs
from harness.config import known_machines

PATCH = Path(__file__).parent / "reach" / "vfio-user.patch"
CASES = (
    "lifecycle or config_writes or failed_resets or multifunction or sriov or ahci or e1000e or groups or teardown"
    " or big_bar or pmr or acs or roce_pair"
)
"""The files of tests/vm with cases that write config space, reset, or are for one machine only."""
BUGS = {
    "af-flr": {
        "af-flr-frees-interrupts",
        "af-flr-late-revoke",
        "af-flr-not-made",
        "af-flr-not-revoked",
        "af-flr-stays-revoked",
        "af-flr-stays-written",
    },
    "conventional-reset": {"conventional-reset-refused"},
    "reset-interrupts": {"reset-frees-interrupts"},
    "command-mem-interrupts": {"command-mem-frees-interrupts"},
    "unready-device": {"unready-device-stays-revoked"},
    "lost-device-revoke": {"lost-device-not-revoked"},
    "lost-device-command": {"lost-device-command-refused"},
}
"""The mutations that make a difference in a state, by the patch's name for it."""


def reached(harness: CommandLine, machine: str, cases: str) -> set[str]:
    """Run cases on the patched kernel. Return the states that it has logged."""
    outcome = harness("run", "--series", PATCH, "--machine", machine, "-k", cases)
    assert outcome.code in (0, 1), outcome.output  # some cases do not suit a machine that has a focus
    consoles = outcome.results.glob("latest/machine-*/console.log")
    return {state for each in consoles for state in re.findall(r"reached: (\S+)", each.read_text(errors="replace"))}


def test_the_device_of_our_own_reaches_each_state(harness: CommandLine) -> None:
    assert reached(harness, "vfio-user", "af_flr or stops_the_machine or never_ready or gone or interrupts") == set(
        BUGS
    )


@pytest.mark.parametrize("machine", sorted(set(known_machines()) - {"vfio-user"}))
def test_a_bug_survives_where_its_state_is_not_reached(harness: CommandLine, machine: str) -> None:
    found = reached(harness, machine, CASES)
    noticeable = {bug for state in found for bug in BUGS[state]}
    survivors = {bug.id for bug in load_bugs() if machine in bug.survives_on}
    assert not noticeable & survivors, f"{machine} reaches {found}"
