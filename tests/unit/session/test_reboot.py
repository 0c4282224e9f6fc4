# SPDX-License-Identifier: GPL-2.0-only
"""A guest that resets before its SSH server has answered: the reset ends the wait, not the answer."""

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from harness.session import Session


def test_a_reboot_does_not_wait_for_the_answer_to_its_request() -> None:
    asked, answered = threading.Event(), threading.Event()

    def exec_command(command: str) -> None:
        assert command == "reboot -f"
        asked.set()
        answered.wait(30)

    def wait_reset(reset: Callable[[], object], timeout: float) -> None:
        reset()
        assert asked.wait(10)

    session = Session.__new__(Session)
    ssh = SimpleNamespace(exec_command=exec_command)
    session.machine = cast(Any, SimpleNamespace(ssh=lambda: ssh, wait_reset=wait_reset, slowdown=1.0))
    session.reboot()
    assert session.unusable
    assert not answered.is_set()
    answered.set()
