# SPDX-License-Identifier: GPL-2.0-only
"""Random programs, and the shortest one that fails.

A rule-based state machine of hypothesis chooses calls that the reference model allows. The model alone decides which
these are, so a program is known before a machine runs it. Each prefix of a program that has run is remembered with its
outcome: no program runs twice, and a failure that occurred once is never lost.

A program that fails is shrunk by dropping calls. hypothesis' own shrinking would need many more runs, since it changes
the random choices behind the calls.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from harness.cases.model import ACTIONS, REVOKING, Model, allowed
from harness.cases.program import Call, Program, as_text, without
from harness.errors import HarnessError

END = Call("end of the program")
"""Stands for the end of a program, where everything is closed."""

WITHOUT_BUFFER = ("export", "open", "close", "kill", "low_power_exit")
"""Actions that lead to a buffer. Without one, nothing shows what other actions have done."""
LIKELY = 8
"""The weight of a call that leads on, where others have 1: it makes a mapping, revokes one, or ends a state in which
nothing can be mapped."""
MAKING = ("attach", "attach_driver", "map", "fence")
"""Actions after which a revoke has more to do."""


class Runner(Protocol):
    """Runs one program. ``step`` and ``finish`` raise what the program has shown."""

    def step(self, call: Call) -> None:
        """Make a call and judge it."""

    def finish(self) -> None:
        """Close everything and judge that nothing is left."""


@dataclass(frozen=True)
class Limits:
    """How much a search does."""

    programs: int
    """Random programs."""
    calls: int
    """Calls of a program."""
    search_s: float
    """Seconds after which no more random program starts."""
    shrink_s: float
    """Seconds after the first failure after which no shorter program is tried."""


@dataclass(frozen=True)
class Failure:
    """A program that failed."""

    program: Program
    """Its last call shows the failure, or everything that was closed after it."""
    error: Exception
    at_end: bool
    """Whether it failed after its last call, when everything was closed."""


@dataclass
class Search:
    """The programs that have run, and their outcomes.

    ``start`` makes a clean machine and returns the runner of a new program. ``end`` is called after each program, with
    the error that ended it.
    """

    start: Callable[[], Runner]
    end: Callable[[Exception | None], None]
    limits: Limits
    ran: int = 0
    """Programs that ran, those of the shrinking too."""
    _first: Failure | None = None
    _outcomes: dict[Program, Failure | None] = field(default_factory=dict)
    """How the last call of each prefix failed; None if it was right."""
    _runner: Runner | None = None
    _done: Program = ()
    """What the runner has run."""
    _known: frozenset[str] = frozenset()
    _deadline: float = 0.0
    _fatal: HarnessError | None = None

    def run(self, known: frozenset[str], seeded: int) -> Failure | None:
        """Run random programs from the random seed ``seeded``; return the shortest that fails, or None.

        ``known``: see ``Model``. Raises HarnessError for a failure of the harness.
        """
        self._deadline = time.monotonic() + self.limits.search_s
        self._known = known
        machine = seed(seeded)(state_machine(self, known))
        try:
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=self.limits.programs,
                    stateful_step_count=self.limits.calls,
                    phases=[Phase.generate],
                    deadline=None,
                    database=None,
                    report_multiple_bugs=False,
                    print_blob=False,
                    verbosity=Verbosity.quiet,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        except Exception:
            if not self._first and not self._fatal:
                raise
        try:
            if self._fatal:
                raise self._fatal
            return self._shrink(self._first) if self._first else None
        finally:
            self._stop(None)

    def _shrink(self, failure: Failure) -> Failure:
        """Drop calls, first many at once and at last one by one, as long as the rest fails in the same way."""
        size = max(len(failure.program) // 2, 1)
        while time.monotonic() < self._deadline:
            if shorter := self._drop(failure, size):
                failure = shorter
                size = max(min(size, len(failure.program)), 1)
            elif size == 1:
                break
            else:
                size //= 2
        return failure

    def _drop(self, failure: Failure, size: int) -> Failure | None:
        """Return a failure of the program without some ``size`` calls; None if no such program fails in the same way.

        ContractBroken is one way to fail, each loss of the machine another.
        """
        program = failure.program
        for start in reversed(range(0, len(program), size)):
            candidate = without(program, range(start, start + size))
            if not allowed(candidate, self._known):
                continue
            found = self._try((*candidate, END) if failure.at_end else candidate)
            if found and type(found.error) is type(failure.error):
                return found
        return None

    def _try(self, program: Program) -> Failure | None:
        """Run a program. Returns its failure."""
        for length in range(1, len(program) + 1):
            prefix = program[:length]
            try:
                self.take(prefix)
            except HarnessError:
                raise
            except Exception:
                return self._outcomes[prefix]
        return None

    def take(self, program: Program) -> None:
        """Make the last call of a program, whose other calls were right. Raises what it shows."""
        if program in self._outcomes:
            if failure := self._outcomes[program]:
                raise failure.error
            return
        if time.monotonic() > self._deadline:
            return
        try:
            self._catch_up(program[:-1])
            self._step(program[-1])
        except HarnessError as error:
            error.add_note(f"the program:\n{as_text(self._done)}")
            self._fatal, self._deadline = error, 0.0
            self._stop(error)
            raise
        except Exception as error:
            self._fail(program, error)
            raise
        self._outcomes[program] = None
        self._done = program

    def _catch_up(self, program: Program) -> None:
        """Bring the runner to the end of ``program``."""
        if self._runner is None or self._done != program:
            self._stop(None)
            self._runner = self.start()
            self.ran += 1
            for call in program:
                self._step(call)
            self._done = program

    def _step(self, call: Call) -> None:
        assert self._runner
        self._done = (*self._done, call)
        if call is END:
            self._runner.finish()
        else:
            self._runner.step(call)

    def _fail(self, program: Program, error: Exception) -> None:
        """Remember a failure. It may have come earlier than the program's last call."""
        done = tuple(call for call in self._done if call is not END)
        failure = self._outcomes[program] = Failure(done, error, at_end=done != self._done)
        if not self._first:
            self._first, self._deadline = failure, time.monotonic() + self.limits.shrink_s
        self._stop(error)

    def _stop(self, error: Exception | None) -> None:
        if self._runner:
            self._runner, self._done = None, ()
            self.end(error)


def state_machine(search: Search, known: frozenset[str]) -> Any:
    """Return the state machine that grows a program call by call."""

    class Programs(RuleBasedStateMachine):
        """A program and the state of the model after it.

        One rule makes every call: hypothesis leaves some rules out of each program, and most programs need all.
        """

        def __init__(self) -> None:
            super().__init__()
            self.model = Model(known)
            self.program: Program = ()
            self.failed = False

        @rule(data=st.data())
        def call(self, data: st.DataObject) -> None:
            """Make a call that the model allows."""
            do = data.draw(st.sampled_from(actions(self.model)))
            call = data.draw(st.sampled_from(likely_calls(self.model, do)))
            self.model.apply(call)
            self.program = (*self.program, call)
            try:
                search.take(self.program)
            except Exception:
                self.failed = True
                raise

        def teardown(self) -> None:
            if not self.failed:
                search.take((*self.program, END))

    return Programs


def actions(model: Model) -> list[str]:
    """List the actions that are possible now, each as often as its weight."""
    weights = dict.fromkeys(ACTIONS, 1)
    for do in MAKING:
        if any(not model.refuses(call) for call in model.choices(do)):
            weights[do] = LIKELY
    mapped = sum(window.live for window in model.windows.values())
    mapped += 2 * sum(each.mapped or each.fenced for each in model.attachments.values())
    weights |= dict.fromkeys((*REVOKING, "close"), min(mapped, LIKELY // 2) or 1)
    leads_on = {
        "memory_on": not model.memory,
        "d0": model.d3hot,
        "low_power_exit": bool(model.low_power),
        "export": not model.exported,
        "open": not model.is_open,
    }
    weights |= {do: LIKELY for do, leads in leads_on.items() if leads}
    if len(model.exported) == 1:
        weights["export"] = LIKELY // 2
    if not model.held():
        weights = {do: weights[do] for do in WITHOUT_BUFFER}
    return [do for do, weight in weights.items() if model.choices(do) for _ in range(weight)]


def likely_calls(model: Model, do: str) -> list[Call]:
    """List the possible calls of an action. Those that the kernel accepts come more often."""
    calls = model.choices(do)
    return [call for call in calls for _ in range(1 if model.refuses(call) else LIKELY // 2)]
