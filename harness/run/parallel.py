# SPDX-License-Identifier: GPL-2.0-only
"""What ``vfio-harness run`` gives pytest: our terminal speaks instead of pytest's, and several machines run at once."""

from contextlib import closing

import pytest

from harness.errors import HarnessError
from harness.report.terminal import Terminal
from harness.run import workers
from harness.run.plugin import LISTENER, RUN, TERMINAL, identify
from harness.run.workers import Died, Line, Started, Told
from harness.verdict import CaseRecord, Verdict, exit_code


class FrontEnd:
    """A pytest plugin. ``jobs``: machines at once, by default one for each processor."""

    def __init__(self, terminal: Terminal, jobs: int | None = None) -> None:
        self._terminal = terminal
        self._jobs = jobs or workers.default_jobs()
        self.interrupted = False

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Take pytest's reporter out; its options stay."""
        config.stash[TERMINAL] = self._terminal
        config.pluginmanager.unregister(name="terminalreporter")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A case file that cannot be read is our failure, and must be seen."""
        if report.failed:
            self._terminal.failure(HarnessError(f"{report.nodeid} cannot be collected:\n{report.longreprtext}"))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Not all that was asked for can run: then nothing is built or booted."""
        if session.testsfailed:
            raise pytest.exit.Exception("a case file cannot be collected", returncode=HarnessError.exit_code)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Tell Ctrl-C from pytest.exit, which comes here too: pytest's exit code for it is that of a usage error."""
        self.interrupted = excinfo.errisinstance(KeyboardInterrupt)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Share the cases among machines; one case needs no second machine, and gdb has one port: pytest's own loop."""
        alone = session.config.option.gdb or min(self._jobs, len(session.items)) == 1
        if alone or RUN not in session.config.stash:
            return None
        self._share(session)
        return True

    def _share(self, session: pytest.Session) -> None:
        config, run = session.config, session.config.stash[RUN]

        def work(line: Line) -> None:
            config.stash[LISTENER] = line
            try:
                run.warm()
                for index in line.cases():
                    config.hook.pytest_runtest_protocol(item=session.items[index], nextitem=None)
            finally:
                run.close()

        try:
            with closing(workers.share(len(session.items), self._jobs, work, self._terminal.paused)) as telling:
                for told in telling:
                    record = self._hear(told, session.items)
                    if record and told.index is not None:
                        run.add(record, told.index)
                        self._terminal.case_done(record, told.slot)
                        if config.option.fail_fast and exit_code([record.verdict]):
                            break
        finally:
            run.sweep()

    def _hear(self, told: Told, items: list[pytest.Item]) -> CaseRecord | None:
        match told.what:
            case CaseRecord() as record:
                return record
            case Died(how, seconds):
                assert told.index is not None, "otherwise it is an error"
                reason = f"the process that ran the case is gone: {how}"
                identity = identify(items[told.index])
                return CaseRecord(**vars(identity), verdict=Verdict.ERROR, reason=reason, duration_s=round(seconds, 3))
            case Started(title):
                self._terminal.case_started(title, told.slot)
            case event:
                self._terminal.emit(event)
        return None
