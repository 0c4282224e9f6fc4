# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin: the hooks through which pytest runs the cases. Fixtures and selection have their own modules."""

import logging
from collections.abc import Generator

import pytest
from _pytest.runner import runtestprotocol

from harness import paths
from harness.errors import HarnessError, KernelLacksFeature, QemuTooOld, UsageError
from harness.progress import Event, Note, PhaseDone
from harness.report.record import RunDirectory
from harness.run import exit_codes, fixtures
from harness.run.case import Case, identify, is_vm_case
from harness.run.changed import changed
from harness.run.context import CASE, RUN, SHARD, end_run, options_of, reporter_of, terminal_of, uncaptured
from harness.run.fail_nth import FailNth
from harness.run.judge import Skipped
from harness.run.order import order
from harness.run.reach_map import load_map
from harness.run.read_options import add_pytest_options
from harness.run.run_record import Run, save_skipped
from harness.run.select import Candidate, select
from harness.run.setup import Setup
from harness.run.shard import last_durations, parse_shard, shard
from harness.session import IMPORTERS
from harness.verdict import ShardRecord, exit_code

log = logging.getLogger(__name__)

MIN_ORDERED = 3
"""With fewer cases than this, their order makes no difference: each machine takes one at once."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of a run."""
    add_pytest_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the fixtures, and declare the markers that cases carry."""
    config.pluginmanager.register(fixtures, "vfio-harness-fixtures")
    config.addinivalue_line("markers", "contract(area, *rows): the contract's rows that the case covers")
    config.addinivalue_line("markers", "needs(*capabilities): the capabilities of machine and kernel that it needs")
    config.addinivalue_line("markers", "machine(*names): the only machines that can show what the case is about")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a case that takes ``importer`` once with each importer, unless it names its own."""
    if "importer" in metafunc.fixturenames and not any(
        "importer" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")
    ):
        usual = [name for name, kind in IMPORTERS.items() if not kind.on_request]
        metafunc.parametrize("importer", usual, indirect=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the cases of this run, in their order; end the run if there are none."""
    if config.option.collectonly or not items:
        return
    try:
        kept = [items[index] for index in select([*map(Candidate.of, items)], options_of(config))]
        if part := options_of(config).shard:
            kept = _shard(config, kept, part)
    except UsageError as error:
        end_run(config, error)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _shard(config: pytest.Config, items: list[pytest.Item], part: str) -> list[pytest.Item]:
    """Return the cases of a shard. The record of the run will name those of all shards."""
    ids = [identify(item).id for item in items]
    chosen = shard(ids, part, last_durations(paths.results_dir()))
    index, count = parse_shard(part)
    settings = options_of(config).again_settings()
    config.stash[SHARD] = ShardRecord(index=index, count=count, cases=ids, settings=settings)
    return [items[number] for number in chosen]


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Prepare the setup before the first case; end every machine and write the record after the last."""
    config = session.config
    if config.option.collectonly or not any(map(is_vm_case, session.items)):
        return (yield)

    phases: list[PhaseDone] = []

    def emit(event: Event) -> None:
        if isinstance(event, PhaseDone):
            phases.append(event)
        with uncaptured(config):
            reporter_of(config).emit(event)

    options = options_of(config)
    cases = [*map(identify, filter(is_vm_case, session.items))]
    try:
        paths.require_writable(options.run_directory or paths.results_dir())
        run = config.stash[RUN] = Run(
            Setup.prepare(options, emit), RunDirectory(paths.results_dir(), options.run_directory), phases
        )
        run.shard = config.stash.get(SHARD, None)
        _changed_first(session.items, run.setup)
        ended = False
        try:
            done = yield
            ended = True
            return done
        finally:
            run.close()
            record = run.save()
            if ended:
                run.keep_reach(record, emit)
            with uncaptured(config):
                terminal_of(config).finish(record, run.directory.path)
    except KernelLacksFeature as error:
        skipped = save_skipped(options, cases, error, config.stash.get(SHARD, None))
        emit(Note(f"every case is SKIP; {skipped / 'report.html'}"))
        end_run(config, error)
    except QemuTooOld as error:
        if options.bisect:  # no commit is at fault
            end_run(config, error)
        skipped = save_skipped(options, cases, error, config.stash.get(SHARD, None))
        emit(Note(f"every case is SKIP: {error}; {error.hint}; {skipped / 'report.html'}"))
        session.items[:] = []
        return (yield)
    except HarnessError as error:
        end_run(config, error)


def _changed_first(items: list[pytest.Item], setup: Setup) -> None:
    """Move the cases that reach the changed functions to the front, and say so."""
    if len(items) < MIN_ORDERED or not (found := changed(setup.options, setup.kernel)):
        return
    release = setup.kernel.release
    ids = [identify(item).id for item in items]
    positions, why = order(ids, found, load_map(release), setup.machine.name, release)
    if why:
        setup.emit(Note(why))
        items[:] = [items[at] for at in positions]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Derive the exit code from the verdicts; an interrupted run keeps pytest's."""
    run = session.config.stash.get(RUN, None)
    if run is not None and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        code_of = exit_codes.code_of_cases if options_of(session.config).bisect else exit_code
        session.exitstatus = code_of([record.verdict for record in run.records])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """Run one case: start its clock, judge it, and stop the run if ``--fail-fast`` says so.

    With ``--fail-nth`` it runs until no failure is left to try. pytest allows that (_pytest/runner.py).
    """
    if not is_vm_case(item):
        return (yield)
    case = item.stash[CASE] = Case(identify(item))
    run = item.config.stash[RUN]
    if options_of(item.config).fail_nth:
        case.fail_nth = FailNth(kmemleak=run.setup.kernel.features["kmemleak"])
    log.debug("case %s begins", case.identity.id)
    with uncaptured(item.config):
        reporter_of(item.config).case_started(case.identity.title)
    try:
        done = yield
        while run.repeats(case):
            runtestprotocol(item, log=False, nextitem=nextitem)
    except BaseException as interrupt:  # Ctrl-C: no verdict, and the fixtures leave the machine alone
        case.raised.append(interrupt)
        raise
    record = run.conclude(case)
    run.add(record)
    with uncaptured(item.config):
        reporter_of(item.config).case_done(record)
    if run.stops:
        item.session.shouldfail = "--fail-fast"
    return done


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, object, object]:
    """Keep what the case raised, for the judge."""
    case = item.stash.get(CASE, None)
    if case is not None and call.excinfo is not None:
        exc = call.excinfo.value
        case.raised.append(Skipped(exc.msg) if isinstance(exc, pytest.skip.Exception) else exc)
    return (yield)
