# SPDX-License-Identifier: GPL-2.0-only
"""Runs the cells of a night on this host: each is a child process of ``vfio-harness``."""

import signal
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from harness import paths
from harness.commands.children import RUN_S, Children, Ended, Task
from harness.commands.nightly_cells import CaseList
from harness.commands.nightly_engine import Outcome, Ticket
from harness.config import load_machine
from harness.nested import recipe
from harness.nightly.again import options_of
from harness.nightly.jobs import Job
from harness.nightly.record import COMPLETED, KVM_TEST
from harness.run.workers import JOBS_PER_CPU, default_jobs, processors

MEMORY_SHARE = 0.8
"""The share of the free memory that the machines may take."""
QEMU_MIB = 256
"""The memory of QEMU beside the guest's, in MiB: its translated code under TCG, and its devices."""


def free_memory_mib(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Return the memory that new processes can take without swapping, in MiB: MemAvailable of proc(5)."""
    for line in meminfo.read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) // 1024
    return 0


def machine_mib(job: Job) -> int:
    """Return the memory that one machine of a job takes with its peer and what it runs in, in MiB."""
    return _memory_mib(job.cell.machine, job.cell.command)


@cache
def _memory_mib(name: str, command: str) -> int:
    """Read a description once: the engine asks every second, for each job that waits."""
    machine = load_machine(name)
    memory = machine.memory_mib + QEMU_MIB
    if machine.peer:
        memory += machine.peer.memory_mib + QEMU_MIB
    return memory + (recipe.load().outer.memory_mib if command == KVM_TEST else 0)


def machines_of(job: Job, most: int) -> int:
    """Return how many machines a job has, of at most ``most``: an emulated machine with KVM holds one."""
    return 1 if job.cell.command == KVM_TEST else min(most, len(job.cases or job.cell.cases))


class LocalRunner:
    """Runs jobs as child processes, as many at a time as processors and free memory allow."""

    def __init__(self, children: Children, cases: CaseList, memory_mib: int | None = None) -> None:
        """``memory_mib``: what the machines may take; None: most of what is free now."""
        self._children = children
        self._cases = cases
        self._memory = int(free_memory_mib() * MEMORY_SHARE) if memory_mib is None else memory_mib
        self._most = max(1, JOBS_PER_CPU * processors() // default_jobs())
        self._tickets: dict[str, Ticket] = {}

    def host_for(self, job: Job, running: Sequence[Ticket]) -> str | None:
        """Return this host if the job fits next to those that run."""
        if not running:
            return ""
        taken = sum(self._jobs(ticket.job) * machine_mib(ticket.job) for ticket in running)
        fits = taken + self._jobs(job) * machine_mib(job) <= self._memory
        return "" if fits and len(running) < self._most else None

    def _jobs(self, job: Job) -> int:
        """Return the number of machines of a job: the default, or as many as fit into the memory."""
        most = max(1, self._memory // machine_mib(job))
        return machines_of(job, min(default_jobs(len(job.cases or job.cell.cases)), most))

    def wait_for_host(self, job: Job) -> bool:
        """Return False: this host takes any job while nothing runs."""
        return False

    def start(self, ticket: Ticket, host: str) -> None:
        """Start a run. Its output goes to a file in its directory."""
        task = task_of(ticket, self._cases, jobs=self._jobs(ticket.job))
        self._tickets[task.name] = ticket
        self._children.start(task)

    def wait(self) -> list[tuple[Ticket, Outcome]]:
        """Wait for about a second. A run that takes too long is ended, and is an ERROR."""
        ended = [(self._tickets.pop(task.name), outcome_of(end)) for task, end in self._children.wait()]
        for task, end in self._children.end(self._children.overdue(RUN_S)):
            error = f"the run took longer than {RUN_S:.0f} s"
            ended.append((self._tickets.pop(task.name), Outcome(3, error, end.record)))
        return ended

    def end(self, tickets: Sequence[Ticket]) -> list[tuple[Ticket, Outcome]]:
        """End these runs."""
        names = [name for name, ticket in self._tickets.items() if ticket in tickets]
        ended = self._children.end([task for task in self._children.tasks if task.name in names])
        return [(self._tickets.pop(task.name), outcome_of(end)) for task, end in ended]


def task_of(ticket: Ticket, cases: CaseList, jobs: int | None) -> Task:
    """Return the child process of a run."""
    job = ticket.job
    options = replace(options_of(job.cell), seed=job.seed, run_directory=ticket.directory, jobs=jobs)
    where = [str(paths.TOP / case) for case in cases.node_ids(job.cases)]
    return Task(f"{job.cell.id}/{ticket.number}", options, ticket.directory, where, None, job.cell.command)


def outcome_of(end: Ended) -> Outcome:
    """Return how a child process has ended. Another exit code than those of a run means that the process was lost."""
    if end.code in COMPLETED:
        return Outcome(end.code, "" if end.record else str(end.error or ""), end.record)
    return Outcome(None, how_it_was_ended(end.code), end.record)


def how_it_was_ended(code: int) -> str:
    """Say what has ended a run that did not end by itself. ``code``: as ``subprocess`` gives it."""
    return f"the run was ended by {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"
