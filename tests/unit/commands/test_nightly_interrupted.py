# SPDX-License-Identifier: GPL-2.0-only
"""A night whose process is interrupted or killed, and two processes that want one night."""

import os
import signal
import time

import pytest
from processes import wait_until_gone
from stand_in import DEADLINE_S, GOOD, StandIn, night_of_its_own, runs

from harness.errors import UsageError
from harness.nightly.outcomes import load_night
from harness.nightly.record import Why


def wait_for_pid(stand_in: StandIn, run: str) -> int:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        for path in stand_in.nights.glob(f"latest/cells/{run}/pid"):
            if text := path.read_text():
                return int(text)
        assert time.monotonic() < deadline, f"{run} does not run"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_night_continues(stand_in: StandIn, number: int) -> None:
    """It is interrupted twice. What was finished is neither lost nor repeated, and no process is left."""
    stand_in.does(a={"verdicts": GOOD}, b={"verdicts": GOOD, "stay": True}, c={"verdicts": GOOD})
    for what, run in (("start", "b-cell/1"), ("resume", "b-cell/2")):
        with night_of_its_own(stand_in, what) as parent:
            pid = wait_for_pid(stand_in, run)
            os.kill(parent.pid, number)
            parent.wait(DEADLINE_S)
            wait_until_gone(pid, DEADLINE_S)
    night = load_night(stand_in.nights / "latest")
    assert night.ended is None
    assert [runs(night, index) for index in range(3)] == [[(Why.PLAN, 0)], [(Why.PLAN, None)] * 2, []]
    stand_in.does(a={"verdicts": GOOD}, b={"verdicts": GOOD}, c={"verdicts": GOOD})
    code, night = stand_in.run()
    assert code == 0
    assert runs(night, 1) == [(Why.PLAN, None), (Why.PLAN, None), (Why.PLAN, 0)]
    assert stand_in.started() == ["a", "b", "b", "b", "c"]


def test_two_processes_do_not_run_one_night(stand_in: StandIn) -> None:
    stand_in.does(a={"verdicts": GOOD, "stay": True})
    with night_of_its_own(stand_in, "start"):
        stand_in.does(a={"verdicts": GOOD}, b={"verdicts": GOOD, "stay": True}, c={"verdicts": GOOD})
        wait_for_pid(stand_in, "*/1")
        with pytest.raises(UsageError, match="another process runs this night"):
            stand_in.run()
