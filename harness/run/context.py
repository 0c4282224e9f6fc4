# SPDX-License-Identifier: GPL-2.0-only
"""State that the pytest hooks, the fixtures and the parallel runner share through pytest's config."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NoReturn, Protocol

import pytest
from rich.console import Console

from harness.errors import HarnessError
from harness.progress import Event
from harness.report.terminal import Terminal
from harness.run import exit_codes
from harness.run.case import Case
from harness.run.options import Options
from harness.run.read_options import options_from_pytest
from harness.run.run_record import Run
from harness.verdict import CaseRecord, ShardRecord

OPTIONS = pytest.StashKey[Options]()
RUN = pytest.StashKey[Run]()
CASE = pytest.StashKey[Case]()
TERMINAL = pytest.StashKey[Terminal]()
REPORTER = pytest.StashKey["Reporter"]()
SHARD = pytest.StashKey[ShardRecord]()
REPETITION = pytest.StashKey[int]()
"""With ``--repeat``: which repetition of a case this is, from 0."""
ON_ERROR = pytest.StashKey[Callable[[HarnessError], None]]()


class Reporter(Protocol):
    """Receives a run's events: the terminal, or a worker's pipe."""

    def emit(self, event: Event) -> None: ...

    def case_started(self, title: str) -> None: ...

    def case_done(self, record: CaseRecord) -> None: ...


def options_of(config: pytest.Config) -> Options:
    """Return the run's options; plain pytest's are read from its command line."""
    if OPTIONS not in config.stash:
        config.stash[OPTIONS] = options_from_pytest(config)
    return config.stash[OPTIONS]


def terminal_of(config: pytest.Config) -> Terminal:
    """Return the run's terminal; under plain pytest, its lines appear between pytest's own."""
    if TERMINAL not in config.stash:
        console = Console(force_terminal=False, markup=False, highlight=False)
        config.stash[TERMINAL] = Terminal({}, console, every_case=config.get_verbosity() > 0)
    return config.stash[TERMINAL]


def reporter_of(config: pytest.Config) -> Reporter:
    """Return the receiver of events in this process."""
    return config.stash.get(REPORTER, None) or terminal_of(config)


def uncaptured(config: pytest.Config) -> AbstractContextManager[None]:
    """Suspend the output capture of plain pytest."""
    manager = config.pluginmanager.getplugin("capturemanager")
    return manager.global_and_fixture_disabled() if manager else nullcontext()


def end_run(config: pytest.Config, error: HarnessError) -> NoReturn:
    """End the run before its first case.

    ``vfio-harness run`` sets ``ON_ERROR`` and raises the error again. Under plain pytest it is printed here.
    """
    if ON_ERROR in config.stash:
        config.stash[ON_ERROR](error)
    else:
        with uncaptured(config):
            terminal_of(config).failure(error)
    code = exit_codes.code_of_error(error) if options_of(config).bisect else error.exit_code
    raise pytest.exit.Exception(str(error), returncode=code) from None
