# SPDX-License-Identifier: GPL-2.0-only
"""The search finds a failing program, shrinks it, runs no program twice, and keeps its limits."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from harness.cases.model import Model, State, check
from harness.cases.model_search import END, Limits, Search
from harness.cases.must import ContractBroken
from harness.cases.program import Call, Program, as_text
from harness.errors import AgentLost, KernelComplained

LIMITS = Limits(programs=60, calls=15, search_s=60, shrink_s=60)
Fault = Callable[[Program], Exception | None]


@dataclass
class Kernel:
    """Runs programs without a machine, and fails where ``fault`` says so."""

    fault: Fault
    ran: list[Program] = field(default_factory=list)
    ended: list[Exception | None] = field(default_factory=list)

    def start(self) -> "Kernel":
        assert len(self.ended) == len(self.ran), "each program is ended before the next begins"
        self.ran.append(())
        return self

    def step(self, call: Call) -> None:
        self.ran[-1] = (*self.ran[-1], call)
        if error := self.fault(self.ran[-1]):
            raise error

    def finish(self) -> None:
        self.step(END)

    def search(self, limits: Limits = LIMITS) -> Search:
        return Search(self.start, self.ended.append, limits)


def second_unrevoke(program: Program) -> Exception | None:
    """Fail at the second un-revoke of a buffer by COMMAND.MEM."""
    model, unrevokes = Model(), 0
    for call in program:
        before = [buffer.state for buffer in model.exported]
        if call is not END:
            model.apply(call)
        unrevokes += State.REVOKED in before and State.OK in [buffer.state for buffer in model.exported]
    wrong = unrevokes == 2 and program[-1].do in ("memory_on", "flr", "d0")
    return ContractBroken("broken: it can be mapped") if wrong else None


def leak(program: Program) -> Exception | None:
    """Fail at the end if the program has killed a process."""
    return ContractBroken("broken: left") if program[-1] is END and any(c.do == "kill" for c in program) else None


def splat(program: Program) -> Exception | None:
    """Lose the machine at a reset."""
    return KernelComplained("WARNING") if program[-1].do == "reset" else None


@pytest.mark.parametrize(
    ("fault", "calls"), [(second_unrevoke, 5), (leak, 2), (splat, 1)], ids=["second_unrevoke", "leak", "splat"]
)
def test_a_failure_is_shrunk_to_its_shortest_program(fault: Fault, calls: int) -> None:
    kernel = Kernel(fault)
    failure = kernel.search().run(frozenset(), 5)
    assert failure
    assert len(failure.program) == calls, as_text(failure.program)
    assert fault((*failure.program, END) if fault is leak else failure.program)
    check(failure.program, frozenset())


def test_no_program_runs_twice_and_each_is_ended() -> None:
    kernel = Kernel(splat)
    search = kernel.search()
    search.run(frozenset(), 3)
    assert len(kernel.ended) == len(kernel.ran) == search.ran == len(set(kernel.ran))
    assert any(isinstance(error, KernelComplained) for error in kernel.ended)


def test_the_same_seed_makes_the_same_programs() -> None:
    kernels = [Kernel(lambda program: None) for _ in range(3)]
    for kernel, seeded in zip(kernels, (1, 1, 2), strict=True):
        assert kernel.search().run(frozenset(), seeded) is None
    assert kernels[0].ran == kernels[1].ran != kernels[2].ran
    assert len(kernels[0].ran) >= LIMITS.programs // 2, "hypothesis drops some duplicates"


def test_an_error_of_the_harness_ends_the_search() -> None:
    kernel = Kernel(lambda program: AgentLost("cut") if len(program) == 3 else None)
    with pytest.raises(AgentLost, match="cut"):
        kernel.search().run(frozenset(), 1)
    assert len(kernel.ran) == 1


def test_no_program_starts_after_the_time_limit() -> None:
    kernel = Kernel(lambda program: None)
    assert kernel.search(Limits(programs=60, calls=15, search_s=0, shrink_s=60)).run(frozenset(), 1) is None
    assert kernel.ran == []


def test_a_failure_that_is_not_shrunk_in_time_is_reported_as_it_occurred() -> None:
    kernel = Kernel(splat)
    failure = kernel.search(Limits(programs=60, calls=15, search_s=60, shrink_s=0)).run(frozenset(), 1)
    assert failure
    assert [program for program in kernel.ran if splat(program)] == [failure.program]


def test_a_failure_that_occurs_only_once_is_reported() -> None:
    """The kernel warns once; the next time, the same calls pass."""
    warned: list[Program] = []

    def once(program: Program) -> Exception | None:
        if warned or program[-1].do != "flr":
            return None
        warned.append(program)
        return KernelComplained("WARNING")

    failure = Kernel(once).search().run(frozenset(), 1)
    assert failure
    assert [failure.program] == warned


def test_a_program_is_shrunk_to_one_that_fails_in_the_same_way() -> None:
    """Without its export, the program would break the contract and not make the kernel complain."""

    def fault(program: Program) -> Exception | None:
        if program[-1].do != "reset":
            return None
        exported = any(call.do == "export" for call in program)
        return KernelComplained("WARNING") if exported else ContractBroken("broken: x")

    failure = Kernel(fault).search().run(frozenset(), 1)
    assert failure
    assert isinstance(failure.error, KernelComplained)
    assert [call.do for call in failure.program] == ["export", "reset"]
