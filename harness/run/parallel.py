# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin of ``vfio-harness run``: the harness's terminal instead of pytest's, and several machines."""

from contextlib import closing, nullcontext

import pytest

from harness.errors import HarnessError
from harness.progress import PhaseDone, phase
from harness.report.rate import FAILED
from harness.report.terminal import Terminal
from harness.run import workers
from harness.run.case import identify, started_before
from harness.run.context import ON_ERROR, OPTIONS, REPETITION, REPORTER, RUN, TERMINAL
from harness.run.options import Options
from harness.run.workers import CaseStarted, WorkerDied, WorkerPipe, WorkerReport
from harness.verdict import CaseRecord, Verdict


class CommandLineRun:
    """Runs the cases as ``options`` say, and shows them on ``terminal``.

    ``interrupted`` is set by Ctrl-C, ``error`` by what ends the run before its first case.
    """

    def __init__(self, options: Options, terminal: Terminal) -> None:
        self._options = options
        self._terminal = terminal
        self._unreadable: list[str] = []
        self.interrupted = False
        self.error: HarnessError | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Hand options and terminal to the hooks, and remove pytest's reporter; its options stay."""
        config.stash[OPTIONS] = self._options
        config.stash[TERMINAL] = self._terminal
        config.stash[ON_ERROR] = self._fail
        config.pluginmanager.unregister(name="terminalreporter")

    def _fail(self, error: HarnessError) -> None:
        self.error = error

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep the errors of case files that cannot be read."""
        if report.failed:
            self._unreadable.append(f"{report.nodeid} cannot be collected:\n{report.longreprtext}")

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """End the run if a case file cannot be read: nothing is built or booted."""
        if self._unreadable:
            self.error = HarnessError("\n".join(self._unreadable))
            raise pytest.exit.Exception("a case file cannot be collected", returncode=HarnessError.exit_code)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Distinguish Ctrl-C from pytest.exit, which calls this hook too."""
        self.interrupted = excinfo.errisinstance(KeyboardInterrupt)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Share the cases, or their repetitions, among machines.

        pytest's own loop runs a single case. It also runs all cases with --gdb, which has only one port. It cannot
        repeat a case: it would not tear down the fixtures of a case that is also the next one.
        """
        cases = len(session.items) * self._options.repeat
        jobs = self._options.jobs or workers.default_jobs(cases)
        if self._options.gdb is not None:
            jobs = 1
        alone = min(jobs, cases) == 1 and self._options.repeat == 1
        if alone or RUN not in session.config.stash:
            return None
        self._share(session, jobs)
        return True

    def _share(self, session: pytest.Session, jobs: int) -> None:
        config, run, items = session.config, session.config.stash[RUN], session.items

        def work(pipe: WorkerPipe) -> None:
            config.stash[REPORTER] = pipe
            try:
                run.warm()
                for index in pipe.cases():
                    repetition, number = divmod(index, len(items))
                    items[number].stash[REPETITION] = repetition
                    config.hook.pytest_runtest_protocol(item=items[number], nextitem=None)
            finally:
                run.close()

        repeating = self._options.repeat > 1
        total = len(items) * self._options.repeat
        progress = phase(self._terminal.emit, "repeat", f"{total} runs of {len(items)} cases") if repeating else None
        try:
            with (
                progress or nullcontext() as step,
                closing(workers.share(total, jobs, work, self._terminal.paused)) as reports,
            ):
                for report in reports:
                    if isinstance(report.what, PhaseDone):
                        run.phases.append(report.what)
                    if record := self._show(report, items):
                        run.add(record, report.index)
                        if step is None:
                            self._terminal.case_done(record, report.slot)
                        else:
                            self._terminal.repetition_done(record, report.slot)
                            bad = sum(each.verdict in FAILED for each in run.records)
                            step.progress(f"{bad} of {len(run.records)} failed", len(run.records) / total)
                        if run.stops:
                            break
        finally:
            run.sweep()

    def _show(self, report: WorkerReport, items: list[pytest.Item]) -> CaseRecord | None:
        """Show a report, or return the case's record if it is one."""
        match report.what:
            case CaseRecord() as record:
                return record
            case WorkerDied(how, seconds):
                assert report.index is not None, "share() raises for a worker without a case"
                reason = f"the process that ran the case is gone: {how}"
                identity = identify(items[report.index % len(items)])
                return CaseRecord(
                    **vars(identity),
                    verdict=Verdict.ERROR,
                    reason=reason,
                    started=started_before(seconds),
                    duration_s=round(seconds, 3),
                )
            case CaseStarted(title):
                self._terminal.case_started(title, report.slot)
            case event:
                self._terminal.emit(event)
        return None
