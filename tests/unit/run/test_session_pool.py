# SPDX-License-Identifier: GPL-2.0-only
"""The boot of a session: a machine whose device is faulty says nothing about the kernel that does not boot on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.errors import AgentLost, BlindWitness, GuestHung
from harness.run import session_pool
from harness.run.session_pool import SessionPool


@pytest.mark.parametrize(
    ("ended", "says", "raised"),
    [
        (GuestHung("no line"), "device nvme0 is faulty", BlindWitness),
        (GuestHung("no line"), "", GuestHung),
        (AgentLost("cut"), "not asked", AgentLost),
    ],
)
def test_a_device_is_checked_if_the_guest_does_not_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: Exception, says: str, raised: type[Exception]
) -> None:
    running: list[object] = []

    @contextmanager
    def machine_in(directory: Path) -> Iterator[object]:
        running.append(directory)
        yield SimpleNamespace(name=directory.name)
        running.clear()

    @contextmanager
    def session_on(machine: object) -> Iterator[None]:
        raise ended
        yield

    def fault(machine: object, since: float) -> str:
        assert running, "it is checked while the machine is there"
        return says

    monkeypatch.setattr(session_pool, "device_check", SimpleNamespace(fault=fault))
    pool = SessionPool(cast(Any, SimpleNamespace(machine_in=machine_in, session_on=session_on)), tmp_path)
    with pytest.raises(raised) as caught:
        pool.get()
    assert pool.current is None
    if raised is BlindWitness:
        assert str(caught.value) == "device nvme0 is faulty; the boot had found: no line"
