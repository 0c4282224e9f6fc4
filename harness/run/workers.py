# SPDX-License-Identifier: GPL-2.0-only
"""Cases on several machines at once: one process for each machine, forked from the one that has made all ready.

A fork costs nothing: what was imported, collected and prepared is there. (pytest-xdist's workers import and collect
again, 1.3 s of processor each before the first boot; and one in the middle of a case outlives its controller by the 5 s
of execnet's WorkerGateway, where all is to be gone in 3.)
A worker that waits for a case gets the next one, so that they are all busy to the end.
"""

import ctypes
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
from harness.progress import Event
from harness.verdict import CaseRecord

MOST = 8
"""Machines at once, unless more are asked for: a boot has to be worth its while."""
LEAVE_S = 2.0
"""A worker that is asked to end has this long to put its machine away, then it is killed."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)
PR_SET_PDEATHSIG = 1
"""<linux/prctl.h>"""


@dataclass(frozen=True)
class Ready:
    """A worker waits for a case."""


@dataclass(frozen=True)
class Started:
    """A case has begun."""

    title: str


@dataclass(frozen=True)
class Died:
    """A worker is gone, ``seconds`` after it was given a case: ``how``, e.g. ``killed by SIGKILL``."""

    how: str
    seconds: float


Message = Ready | Started | Event | CaseRecord | HarnessError
"""What a worker tells."""


@dataclass(frozen=True)
class Told:
    """What came of the case at ``index`` (None: of a machine that boots for whatever comes) in the ``slot``-th worker
    of those at work, from 1."""

    slot: int
    index: int | None
    what: Started | Event | CaseRecord | Died


class Line:
    """A worker's end of the line. To what runs there, it stands for the terminal."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def tell(self, message: Message) -> None:
        """Send a message."""
        self._connection.send(message)

    def emit(self, event: Event) -> None:
        """As ``Terminal.emit``."""
        self.tell(event)

    def case_started(self, title: str) -> None:
        """As ``Terminal.case_started``."""
        self.tell(Started(title))

    def case_done(self, record: CaseRecord) -> None:
        """As ``Terminal.case_done``."""
        self.tell(record)

    def cases(self) -> Iterator[int]:
        """The cases that are given to this worker, by index; it asks for each."""
        self.tell(Ready())
        while (index := self._connection.recv()) is not None:
            yield index
            self.tell(Ready())


@dataclass
class _Worker:
    slot: int
    process: ForkProcess
    connection: Connection
    booted: bool = False
    index: int | None = None
    since: float = 0.0
    leaving: bool = False

    def how_it_ended(self) -> str:
        self.process.join()
        code = self.process.exitcode or 0
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def default_jobs() -> int:
    """One machine for each processor that is ours to use."""
    return min(len(os.sched_getaffinity(0)), MOST)


def share(
    count: int, jobs: int, work: Callable[[Line], None], forking: Callable[[], AbstractContextManager[object]]
) -> Generator[Told, None, None]:
    """Have ``count`` cases done by at most ``jobs`` workers, each of which does ``work``; yields what they tell.

    The next worker is started when those before it have booted, so that no boot is slower for another. ``forking``
    surrounds each fork: no thread may hold a lock in it that ``work`` takes. Closing the generator, or any exception,
    ends all workers, within ``LEAVE_S``; so does the end of this process, whatever ends it.

    Raises a worker's HarnessError, and HarnessError for one that dies without a case.
    """
    left = iter(range(count))
    given = 0
    workers: list[_Worker] = []
    try:
        while given < count or any(worker.index is not None or worker.leaving for worker in workers):
            if given < count and len(workers) < min(jobs, count) and all(worker.booted for worker in workers):
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
                        yield Told(worker.slot, worker.index, Died(how, time.monotonic() - worker.since))
                    elif not worker.leaving:
                        raise HarnessError(f"a process that runs cases is gone: {how}") from None
                    continue
                match message:
                    case Ready():
                        worker.booted = True
                        worker.index, worker.since = next(left, None), time.monotonic()
                        given += worker.index is not None
                        worker.leaving = worker.index is None
                        with suppress(BrokenPipeError):  # it has just died: that is heard next
                            worker.connection.send(worker.index)
                    case HarnessError():
                        raise message
                    case _:
                        yield Told(worker.slot, worker.index, message)
    finally:
        _end(workers)


def _start(workers: list[_Worker], slot: int, work: Callable[[Line], None]) -> None:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(
        target=_main, args=(work, ours, theirs, os.getpid()), name=f"worker-{slot}", daemon=True
    )
    with _blocked(SIGNALS):  # so that none is started without being known
        process.start()
        workers.append(_Worker(slot, process, ours))
    theirs.close()


@contextmanager
def _blocked(signals: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Signals that come meanwhile are delivered afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _main(work: Callable[[Line], None], ours: Connection, theirs: Connection, parent: int) -> None:
    """A worker's life, which begins with signals blocked. SIGTERM ends it, also when the parent is gone; the terminal's
    Ctrl-C is for the parent."""
    ours.close()
    os.setsid()
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    line = Line(theirs)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        if os.getppid() == parent:  # otherwise it went before the kernel was told to tell us
            work(line)
    except (KeyboardInterrupt, EOFError, BrokenPipeError):  # the latter two: nobody is at the other end any more
        pass
    except HarnessError as error:
        line.tell(HarnessError(str(error), hint=error.hint))  # of a class that any process can make from its text


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Once: what is put away then is not to be interrupted again."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.process.terminate()
    deadline = time.monotonic() + LEAVE_S
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        worker.process.kill()  # its QEMU dies with it
        worker.process.join()
        worker.connection.close()
