# SPDX-License-Identifier: GPL-2.0-only
"""One case: its identity, and its state while it runs."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from harness.run.fail_nth import FailNth
from harness.session import Session
from harness.session.fail_nth import FailurePass
from harness.session.recording import Recording
from harness.verdict import Evidence
from harness.witness import Watch

MAX_CALLS = 60
"""Calls into the guest that the evidence keeps: the latest."""
MAX_NOTE = 16 * 1024
"""Characters of one exception note that the evidence keeps."""


@dataclass(frozen=True)
class Identity:
    """The identity of a case; the fields have their names in CaseRecord."""

    id: str
    area: str
    title: str
    importer: str | None = None
    trigger: str | None = None


def is_vm_case(item: pytest.Item) -> bool:
    """Return whether the harness judges an item: it uses a session, directly or through other fixtures."""
    return "session" in getattr(item, "fixturenames", ())


def identify(item: pytest.Item) -> Identity:
    """Read a case's identity: its area from the contract marker, its title from the docstring's first line."""
    mark = item.get_closest_marker("contract")
    params: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    doc = getattr(getattr(item, "obj", None), "__doc__", None) or item.name
    return Identity(
        id=f"{item.path.stem}::{item.name}",
        area=str(mark.args[0]) if mark else item.path.stem.removeprefix("test_"),
        title=doc.strip().splitlines()[0],
        importer=params.get("importer"),
        trigger=params.get("trigger"),
    )


def started_before(seconds: float) -> str:
    """Return when a case started that took ``seconds`` until now: ISO 8601, UTC, on the host's clock."""
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


@dataclass
class Case:
    """One case while it runs."""

    identity: Identity
    began: float = field(default_factory=time.monotonic)
    """Seconds, on the monotonic clock."""
    raised: list[BaseException] = field(default_factory=list)
    """What set-up, call and teardown raised, in that order."""
    watch: Watch | None = None
    """The witnesses; None before the case has a session."""
    left_clean: bool = False
    """Whether the case has ended and left nothing open in its machine."""
    seed: int | None = None
    """The random seed, if the case uses one."""
    program: str | None = None
    """The calls that show the failure, if the case has drawn them."""
    ran_in: str | None = None
    """The directory of its machine, as in CaseRecord."""
    calls: list[Evidence] = field(default_factory=list)
    """The latest calls into the guest."""
    recording: Recording | None = None
    """All calls and statements since its machine was ready, for a reproducer. None before that."""
    fail_nth: FailNth | None = None
    """The failures of its calls, with ``--fail-nth``."""
    earlier_s: float = 0.0
    """How long its earlier passes took."""

    def begin_again(self) -> None:
        """Begin another pass of a case that has ended well."""
        self.earlier_s += self.elapsed()
        self.left_clean = False
        self.calls.clear()

    def end_failures(self, session: Session) -> FailurePass | None:
        """End a pass with failures, and add them to the evidence; None without ``--fail-nth``."""
        if self.fail_nth is None:
            return None
        done = self.fail_nth.end(session)
        for failure in done.survived:
            self.on_call(f"fail-nth: {failure} failed, and the case went on")
        self.on_call(str(self.fail_nth))
        return done

    def on_call(self, call: str) -> None:
        """Keep a call into the guest as evidence."""
        self.calls.append(Evidence(t=self.elapsed(), source="guest", text=call))
        del self.calls[:-MAX_CALLS]

    def elapsed(self) -> float:
        """Return the seconds since the case began."""
        return round(time.monotonic() - self.began, 6)

    def started(self) -> str:
        """Return when the case began its first pass, on the host's clock: ISO 8601, UTC."""
        return started_before(self.earlier_s + self.elapsed())

    def notes(self) -> list[Evidence]:
        """Return the exceptions' notes: the console's tail, stacks of blocked tasks, QEMU's stderr."""
        return [
            Evidence(t=self.elapsed(), source="console" if note.startswith("console") else "host", text=note[:MAX_NOTE])
            for exc in self.raised
            for note in getattr(exc, "__notes__", ())
        ]
