# SPDX-License-Identifier: GPL-2.0-only
"""Runs cases on several machines in parallel: one worker process for each machine.

A worker is forked from the process that has collected the cases and prepared the setup, so it inherits both at no cost.
(pytest-xdist's workers import and collect again, 1.3 s of processor each before the first boot. In the middle of a
case they outlive their controller by 5 s, a limit of execnet's WorkerGateway; here it is 3 s.)
A worker requests its next case when it is free, so all are busy to the end.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from types import FrameType

from harness.errors import HarnessError
from harness.host.process import tie_to_parent
from harness.progress import Event
from harness.verdict import CaseRecord

MAX_DEFAULT_JOBS = 8
"""Default limit on parallel machines: more would not amortise their boot."""
JOBS_PER_CPU = 2
"""A case waits for half of its time: an FLR takes 100 ms, and so does each DMA of edu (its timer, hw/misc/edu.c)."""
CASES_PER_MACHINE = 8
"""Beyond one machine for each processor, each needs this many cases: they cost as much processor time as its boot."""
BOOTS_PER_CPU = 1
"""A boot keeps one processor busy."""
LEAVE_S = 2.0
"""Grace period between SIGTERM and SIGKILL, in seconds."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class CaseRequest:
    """A worker is ready for a case."""


@dataclass(frozen=True)
class CaseStarted:
    """A case has begun."""

    title: str


@dataclass(frozen=True)
class WorkerDied:
    """A worker died while it ran a case."""

    how: str
    """The cause, e.g. ``killed by SIGKILL``."""
    seconds: float
    """How long it had run the case."""


Message = CaseRequest | CaseStarted | Event | CaseRecord | HarnessError
"""What a worker sends."""


@dataclass(frozen=True)
class WorkerReport:
    """One message of a worker, or its death."""

    slot: int
    """The worker's number among those running, from 1."""
    index: int | None
    """The case that it runs; None while its machine boots ahead of the first case."""
    what: CaseStarted | Event | CaseRecord | WorkerDied


class WorkerPipe:
    """A worker's end of the pipe. It has the methods of a ``Reporter``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, message: Message) -> None:
        """Send a message to the parent."""
        self._connection.send(message)

    def emit(self, event: Event) -> None:
        """Send a progress event."""
        self.send(event)

    def case_started(self, title: str) -> None:
        """Send that a case has begun."""
        self.send(CaseStarted(title))

    def case_done(self, record: CaseRecord) -> None:
        """Send the verdict of a case."""
        self.send(record)

    def cases(self) -> Iterator[int]:
        """Request cases and yield their indices, until there are no more."""
        self.send(CaseRequest())
        while (index := self._connection.recv()) is not None:
            yield index
            self.send(CaseRequest())


@dataclass
class _Worker:
    """A worker, as its parent sees it."""

    slot: int
    process: ForkProcess
    connection: Connection
    booted: bool = False
    """Whether it has requested a case, so its machine runs."""
    index: int | None = None
    """The case that it runs."""
    since: float = 0.0
    """When it got the case, on the monotonic clock."""
    leaving: bool = False
    """Whether it ends because no case is left for it."""

    def how_it_ended(self) -> str:
        """Wait for its end; return the cause, e.g. ``killed by SIGKILL``."""
        self.process.join()
        code = self.process.exitcode or 0
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def default_jobs(cases: int | None = None) -> int:
    """Return the default number of machines: ``JOBS_PER_CPU`` for each processor that this process may use.

    Fewer if that many do not pay for ``cases`` cases; None: any number of cases.
    """
    most = min(JOBS_PER_CPU * processors(), MAX_DEFAULT_JOBS)
    return most if cases is None else min(most, max(processors(), cases // CASES_PER_MACHINE))


def processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0))


def share(
    count: int, jobs: int, work: Callable[[WorkerPipe], None], forking: Callable[[], AbstractContextManager[object]]
) -> Generator[WorkerReport, None, None]:
    """Run ``count`` cases in at most ``jobs`` workers, each of which calls ``work``; yield the workers' reports.

    At most ``BOOTS_PER_CPU`` machines for each processor boot at the same time, so that boots do not slow each other.
    ``forking`` surrounds each fork: no thread may hold a lock in it that ``work`` takes. All workers end within
    ``LEAVE_S`` when the generator is closed or raises. They also end when this process dies.

    Raises a worker's HarnessError, and HarnessError for a worker that dies without a case.
    """
    left = iter(range(count))
    given = 0
    boots = BOOTS_PER_CPU * processors()
    workers: list[_Worker] = []
    try:
        while given < count or any(worker.index is not None or worker.leaving for worker in workers):
            while given < count and len(workers) < min(jobs, count) and _booting(workers) < boots:
                slot = min({*range(1, jobs + 1)} - {worker.slot for worker in workers})
                with forking():
                    _start(workers, slot, work)
            for connection in wait([worker.connection for worker in workers]):
                worker = next(worker for worker in workers if worker.connection is connection)
                try:
                    message: Message = worker.connection.recv()
                except (EOFError, ConnectionResetError):
                    workers.remove(worker)
                    how = worker.how_it_ended()
                    if worker.index is not None:
                        yield WorkerReport(worker.slot, worker.index, WorkerDied(how, time.monotonic() - worker.since))
                    elif not worker.leaving:
                        raise HarnessError(f"a process that runs cases is gone: {how}") from None
                    continue
                match message:
                    case CaseRequest():
                        worker.booted = True
                        worker.index, worker.since = next(left, None), time.monotonic()
                        given += worker.index is not None
                        worker.leaving = worker.index is None
                        with suppress(BrokenPipeError):  # it has just died: recv reports it next
                            worker.connection.send(worker.index)
                    case HarnessError():
                        raise message
                    case _:
                        yield WorkerReport(worker.slot, worker.index, message)
    finally:
        _end(workers)


def _booting(workers: list[_Worker]) -> int:
    return sum(not worker.booted for worker in workers)


def _start(workers: list[_Worker], slot: int, work: Callable[[WorkerPipe], None]) -> None:
    near, far = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(
        target=_main, args=(work, near, far, os.getpid()), name=f"worker-{slot}", daemon=True
    )
    with _blocked(SIGNALS):  # a signal between these two lines would leave the worker unknown
        process.start()
        workers.append(_Worker(slot, process, near))
    far.close()


@contextmanager
def _blocked(signals: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Delay these signals until the block ends."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _main(work: Callable[[WorkerPipe], None], near: Connection, far: Connection, parent: int) -> None:
    """Run a worker. It starts with ``SIGNALS`` blocked.

    SIGTERM ends it; the kernel sends that too when the parent dies. A terminal's Ctrl-C reaches only the parent.
    """
    near.close()
    os.setsid()
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    parent_lives = tie_to_parent(parent, signal.SIGTERM)
    pipe = WorkerPipe(far)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        if parent_lives:
            work(pipe)
    except (KeyboardInterrupt, EOFError, BrokenPipeError):  # the last two: the parent is gone
        pass
    except HarnessError as error:
        pipe.send(HarnessError(str(error), hint=error.hint))  # a subclass may need more than its text to unpickle


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Interrupt once: the clean-up must not be interrupted again."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _end(workers: list[_Worker]) -> None:
    """End all workers: SIGTERM, and SIGKILL after ``LEAVE_S``."""
    for worker in workers:
        worker.process.terminate()
    deadline = time.monotonic() + LEAVE_S
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        worker.process.kill()  # its QEMU dies with it
        worker.process.join()
        worker.connection.close()
