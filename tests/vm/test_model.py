# SPDX-License-Identifier: GPL-2.0-only
"""Random programs, suite ``model``: each call does what the reference model of the contract says.

A program that fails is shrunk; the verdict prints its calls. ``PROGRAM=`` runs the program of a file instead.
"""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from harness.cases.marks import rows_in
from harness.cases.model import check
from harness.cases.model_driver import Driver
from harness.cases.model_search import Limits, Search
from harness.cases.program import Program, as_text, load
from harness.errors import GuestLost
from harness.session import Session
from harness.witness import Watch

rows = rows_in("model")

PARTS = range(1, 5)
"""Parts of the suite, which machines run in parallel."""
LIMITS = Limits(programs=40, calls=20, search_s=75, shrink_s=45)


class Machines:
    """The machine of the case, replaced after a program that may have damaged it."""

    def __init__(
        self, session: Session, watch: Watch, known: frozenset[str], fresh: Callable[[], tuple[Session, Watch]]
    ) -> None:
        self.known = known
        self._current: tuple[Session, Watch] | None = (session, watch)
        self._fresh = fresh
        self._driver: Driver | None = None

    def start(self) -> Driver:
        """Begin a program."""
        if self._current is None:
            self._current = self._fresh()
        self._driver = Driver(*self._current, self.known)
        return self._driver

    def run(self, program: Program) -> None:
        """Run one program. Raises what it shows."""
        driver = self.start()
        try:
            for call in program:
                driver.step(call)
            driver.finish()
        except Exception as error:
            self.end(error)
            raise

    def log(self, text: str) -> None:
        """Keep ``text`` as evidence."""
        if self._current and (on_call := self._current[0].agent.on_call):
            on_call(text)

    def end(self, error: Exception | None) -> None:
        """End a program. After the loss of the machine, the next program gets a fresh one."""
        if isinstance(error, GuestLost):
            self._current = None
        elif self._driver:
            self._driver.abandon()
        self._driver = None


@pytest.fixture
def machines(
    session: Session,
    watch: Watch,
    known_issues: frozenset[str],
    fresh_machine: Callable[[], tuple[Session, Watch]],
) -> Machines:
    """The machine of the case."""
    return Machines(session, watch, known_issues, fresh_machine)


@pytest.mark.needs("iommufd", "dma-api", "rxe", "test_importer", "awaited_revoke")
@rows(
    *("lifecycle.command-mem", "lifecycle.power", "lifecycle.flr", "lifecycle.reset", "lifecycle.hot-reset"),
    *("lifecycle.low-power", "lifecycle.close", "lifecycle.export", "lifecycle.last-reference", "lifecycle.notified"),
    *("lifecycle.waits", "lifecycle.idempotent", "lifecycle.combined", "lifecycle.teardown"),
    *("importers.live", "importers.revoked", "importers.several"),
)
@pytest.mark.parametrize("part", PARTS)
def test_programs(
    machines: Machines, seed: int, part: int, program: Path | None, show_program: Callable[[str], None]
) -> None:
    """Each call of a random program does what the reference model says."""
    if program:
        calls = load(program)
        check(calls, machines.known)
        try:
            machines.run(calls)
        except Exception:
            show_program(as_text(calls))
            raise
        return
    search = Search(machines.start, machines.end, LIMITS)
    failure = search.run(machines.known, Random(f"{seed} {part}").getrandbits(32))
    machines.log(f"{search.ran} programs ran")
    if failure:
        show_program(as_text(failure.program))
        machines.run(failure.program)  # once more, so that the evidence is about it
        raise failure.error
