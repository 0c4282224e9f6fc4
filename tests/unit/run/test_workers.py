# SPDX-License-Identifier: GPL-2.0-only
"""Workers, as real processes; small functions take the place of cases."""

import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.progress import Note
from harness.run import workers
from harness.run.workers import LEAVE_S, CaseStarted, WorkerDied, WorkerPipe, WorkerReport, default_jobs, share

DEADLINE_S = 20.0

Act = Callable[[WorkerPipe, int], None]


@contextmanager
def shared(count: int, jobs: int, act: Act) -> Iterator[Iterator[WorkerReport]]:
    """Yield the reports of workers that call ``act`` for each case. The title of each case is the worker's pid."""

    def work(pipe: WorkerPipe) -> None:
        for index in pipe.cases():
            pipe.case_started(str(os.getpid()))
            act(pipe, index)

    with closing(share(count, jobs, work, nullcontext)) as stream:
        yield stream
    with pytest.raises(ChildProcessError):  # no child is left
        os.waitpid(-1, os.WNOHANG)


def pids(reports: list[WorkerReport]) -> list[str]:
    return [each.what.title for each in reports if isinstance(each.what, CaseStarted)]


def meet(directory: Path, number: int) -> Act:
    """Make an act that waits until ``number`` workers run it at the same time."""

    def act(pipe: WorkerPipe, index: int) -> None:
        (directory / str(index)).touch()
        deadline = time.monotonic() + DEADLINE_S
        while len(list(directory.iterdir())) < number:
            assert time.monotonic() < deadline
            time.sleep(0.005)

    return act


def test_every_case_runs_once() -> None:
    with shared(20, 3, lambda pipe, index: pipe.emit(Note(str(index)))) as stream:
        reports = list(stream)
    assert sorted(each.index for each in reports if isinstance(each.what, CaseStarted)) == list(range(20))
    assert all(each.what == Note(str(each.index)) for each in reports if isinstance(each.what, Note))


def test_as_many_workers_run_in_parallel_as_jobs(tmp_path: Path) -> None:
    with shared(3, 3, meet(tmp_path, 3)) as stream:
        reports = list(stream)
    assert len(set(pids(reports))) == 3
    assert {each.slot for each in reports} == {1, 2, 3}


def test_no_more_workers_start_than_cases(tmp_path: Path) -> None:
    with shared(2, 8, meet(tmp_path, 2)) as stream:
        assert len(set(pids(list(stream)))) == 2


@pytest.mark.parametrize(("cases", "machines"), [(1, 2), (11, 2), (23, 2), (24, 3), (32, 4), (307, 4), (None, 4)])
def test_few_cases_get_one_machine_for_each_processor(
    cases: int | None, machines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "processors", lambda: 2)
    assert default_jobs(cases) == machines


def test_a_machine_boots_on_each_processor_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "processors", lambda: 2)
    booting, booted = tmp_path / "booting", tmp_path / "booted"
    booting.mkdir()
    booted.mkdir()

    def work(pipe: WorkerPipe) -> None:
        (booting / str(os.getpid())).touch()
        deadline = time.monotonic() + DEADLINE_S
        while len(list(booting.iterdir())) < 2:  # the first waits for the second
            assert time.monotonic() < deadline
            time.sleep(0.005)
        pipe.emit(Note(str(len(list(booting.iterdir())) - len(list(booted.iterdir())))))
        (booted / str(os.getpid())).touch()
        list(pipe.cases())

    with closing(share(9, 5, work, nullcontext)) as stream:
        together = [int(each.what.text) for each in stream if isinstance(each.what, Note)]
    assert max(together) == 2


def test_a_worker_that_dies_loses_its_case_and_is_replaced() -> None:
    def act(pipe: WorkerPipe, index: int) -> None:
        if index == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    with shared(6, 2, act) as stream:
        reports = list(stream)
    (died,) = [each for each in reports if isinstance(each.what, WorkerDied)]
    assert (died.index, died.what.how) == (2, "killed by SIGKILL")
    assert sorted(each.index for each in reports if isinstance(each.what, CaseStarted)) == list(range(6))


def test_every_worker_may_die() -> None:
    with shared(4, 2, lambda pipe, index: os._exit(7)) as stream:
        reports = list(stream)
    assert Counter(each.what.how for each in reports if isinstance(each.what, WorkerDied)) == {"exit code 7": 4}


def test_a_worker_that_dies_without_a_case_ends_the_run() -> None:
    with (
        closing(share(4, 2, lambda pipe: os._exit(9), nullcontext)) as stream,
        pytest.raises(HarnessError, match="a process that runs cases is gone: exit code 9"),
    ):
        list(stream)


def test_a_harness_error_of_a_worker_is_raised_in_the_parent() -> None:
    def act(pipe: WorkerPipe, index: int) -> None:
        raise HarnessError("no room", hint="make room")

    with shared(4, 2, act) as stream, pytest.raises(HarnessError, match="no room") as caught:
        list(stream)
    assert caught.value.hint == "make room"


@pytest.mark.parametrize("stubborn", [False, True])
def test_closing_the_generator_ends_the_workers(stubborn: bool) -> None:
    def act(pipe: WorkerPipe, index: int) -> None:
        if stubborn:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        pipe.emit(Note("asleep"))
        time.sleep(DEADLINE_S)

    with shared(2, 2, act) as stream:
        for report in stream:
            if report.what == Note("asleep"):
                break
        began = time.monotonic()
    took = time.monotonic() - began
    assert took >= LEAVE_S if stubborn else took < LEAVE_S


PARENT = """
import os, sys, time
from contextlib import nullcontext
from harness.run.workers import share
def work(pipe):
    for index in pipe.cases():
        pipe.case_started(str(os.getpid()))
        time.sleep(60)
for report in share(2, 2, work, nullcontext):
    print(report.what.title, flush=True)
"""


def test_workers_end_when_their_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        fds = [os.pidfd_open(int(parent.stdout.readline())) for _ in range(2)]
        parent.kill()
        deadline = time.monotonic() + DEADLINE_S
        for fd in fds:
            with os.fdopen(fd), select.epoll() as epoll:
                epoll.register(fd)
                assert epoll.poll(deadline - time.monotonic()), "the worker outlives its parent"
