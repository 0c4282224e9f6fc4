# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin: options, fixtures, verdicts. The one place where the rooms meet."""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from itertools import chain
from pathlib import Path
from random import SystemRandom
from typing import Any, NoReturn, Protocol

import pytest
from rich.console import Console

from harness import paths
from harness.bugs import load_bug
from harness.cases import suites
from harness.cases.must import must
from harness.config import load_machine
from harness.errors import HarnessError, KernelLacksFeature, UsageError
from harness.progress import Event, Note
from harness.report.record import RunDirectory
from harness.report.terminal import Terminal
from harness.run import exit_codes, no_export
from harness.run.case import Case, Identity, Run
from harness.run.judge import Skipped, judge
from harness.run.setup import Options, Setup
from harness.session import IMPORTERS, Attachment, Importer, Nvme, Session
from harness.verdict import NEEDS_FRESH_MACHINE, CaseRecord, exit_code
from harness.witness import Watch

RUN = pytest.StashKey[Run]()
CASE = pytest.StashKey[Case]()
TERMINAL = pytest.StashKey[Terminal]()
LISTENER = pytest.StashKey["Listener"]()

CHOICES = ("machine", "kernel", "flavour", "accel", "qemu", "series", "mutation", "gdb", "suite", "seed")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of a run; ``vfio-harness run`` takes the same ones and hands them on."""
    group = parser.getgroup("vfio-harness", "vfio-harness: the kernel, and the machine it is judged on")
    group.addoption("--machine", default="intel-iommu", help="name in vm-configs/, or a YAML file")
    group.addoption("--kernel", default=None, help="source tree, build directory, or debian:VERSION")
    group.addoption("--flavour", default="release", choices=["release", "debug"])
    group.addoption("--accel", default="auto", choices=["auto", "kvm", "tcg"])
    group.addoption("--qemu", default=None, type=Path, help="the QEMU binary")
    group.addoption("--series", default=None, help="patches for the kernel: mbox, directory, patch or message-id")
    group.addoption("--mutation", default=None, metavar="ID", help="put this bug of vm-configs/bugs into the kernel")
    group.addoption("--suite", default=suites.DEFAULT_SUITE, help="the cases of this suite of vm-configs/suites.yaml")
    group.addoption("--seed", default=new_seed(), type=int, help="what the dice of its races are thrown from")
    group.addoption("--focus", action="store_true", help="only what the machine names of the contract")
    group.addoption("--fail-fast", action="store_true", help="stop at the first case that blames the kernel, or us")
    group.addoption("--bisect", action="store_true", help="exit codes for git bisect run")
    group.addoption("--gdb", nargs="?", type=int, const=1234, metavar="PORT", help="QEMU's gdb stub, on 127.0.0.1")


def new_seed() -> int:
    """A seed that nobody has chosen."""
    return SystemRandom().randrange(1 << 32)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker that cases carry."""
    config.addinivalue_line("markers", "contract(area, *rows): the rows of docs/contract.md that the case covers")
    config.addinivalue_line("markers", "needs(*capabilities): what neither machine nor kernel may lack for the case")
    config.addinivalue_line("markers", "machine(*names): the only machines that can show what the case is about")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A case that takes ``importer`` runs once with each, unless it names its own."""
    if "importer" in metafunc.fixturenames and not any(
        "importer" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")
    ):
        metafunc.parametrize("importer", list(IMPORTERS), indirect=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the cases of other suites and machines, and with --focus what is the same on this machine as on the
    one it extends.

    Where that leaves nothing of what was asked for, say so.
    """
    if config.option.collectonly or not items:
        return
    here, suite = config.getoption("machine"), config.getoption("suite")
    found = suites.suites()
    if suite not in found:
        refuse(config, suites.unknown(suite, found))
    others = {item: suites.suite_of(identify(item).id, found) for item in items}
    kept = [item for item in items if others[item] == suite]
    error = (
        f"no such case is in the suite {suite}, but in {', '.join(sorted(set(others.values())))}: choose with --suite"
    )
    only = {item: mark.args for item in kept if (mark := item.get_closest_marker("machine"))}
    if kept:
        kept = [item for item in kept if Path(here).stem in only.get(item, [Path(here).stem])]
        machines = ", ".join(sorted(set(chain(*only.values()))))
        error = f"no such case is for {here}, but for {machines}: choose with --machine"
    if kept and config.getoption("focus") and (focus := focus_of(config, here)):
        kept = [item for item in kept if item in only or covered(item) & {*focus}]
        error = f"no such case is in the focus of {here}, {', '.join(focus)}: leave --focus out"
    if not kept:
        refuse(config, UsageError(error))
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    if mutation := config.getoption("mutation"):  # what is to show the bug comes first
        with suppress(UsageError):  # of no such bug: the setup says so
            expects = load_bug(mutation).expects
            kept.sort(key=lambda item: not expects.concerns(identify(item).id))
    items[:] = kept


def refuse(config: pytest.Config, error: UsageError) -> NoReturn:
    """End the run before its first case: what was asked for cannot be."""
    terminal(config).failure(error)
    raise pytest.exit.Exception(str(error), returncode=error.exit_code)


def focus_of(config: pytest.Config, machine: str) -> tuple[str, ...]:
    """What a machine's description names as its focus; one that cannot be read ends the run."""
    try:
        return load_machine(machine).focus
    except UsageError as error:
        refuse(config, error)


def covered(item: pytest.Item) -> set[str]:
    """The rows of the contract that a case covers, and their sections."""
    rows = {row for mark in item.iter_markers("contract") for row in mark.args[1:]}
    return rows | {row.partition(".")[0] for row in rows}


# The run


def terminal(config: pytest.Config) -> Terminal:
    """The run's terminal; under plain pytest, one that writes lines between pytest's own."""
    return config.stash.setdefault(TERMINAL, Terminal({}, Console(force_terminal=False, markup=False, highlight=False)))


class Listener(Protocol):
    """Who hears how the cases go: the terminal, unless something stands for it."""

    def emit(self, event: Event) -> None: ...

    def case_started(self, title: str) -> None: ...

    def case_done(self, record: CaseRecord) -> None: ...


def listener(config: pytest.Config) -> Listener:
    """Who hears how the cases go."""
    return config.stash.get(LISTENER, None) or terminal(config)


def uncaptured(config: pytest.Config) -> AbstractContextManager[None]:
    """Plain pytest captures what is printed; what is printed in here is seen."""
    manager = config.pluginmanager.getplugin("capturemanager")
    return manager.global_and_fixture_disabled() if manager else nullcontext()


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Make the setup ready before the first case and end every machine after the last, whatever happened."""
    config = session.config
    if config.option.collectonly or not any(map(is_vm_case, session.items)):
        return (yield)

    def emit(event: Event) -> None:
        with uncaptured(config):
            listener(config).emit(event)

    options = Options(**{name: config.getoption(name) for name in CHOICES})
    try:
        run = config.stash[RUN] = Run(Setup.prepare(options, emit), RunDirectory(paths.results_dir()))
        try:
            return (yield)
        finally:
            run.close()
            record = run.save()
            with uncaptured(config):
                terminal(config).finish(record, run.directory.path)
    except HarnessError as error:
        with uncaptured(config):
            if isinstance(error, KernelLacksFeature):
                skipped = no_export.save(options, map(identify, filter(is_vm_case, session.items)), error)
                terminal(config).emit(Note(f"every case is SKIP; {skipped / 'report.html'}"))
            terminal(config).failure(error)
        code = exit_codes.code_of_error(error) if config.getoption("bisect") else error.exit_code
        raise pytest.exit.Exception(str(error), returncode=code) from None


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The exit code is the verdicts', not pytest's; an interrupted run keeps its own."""
    run = session.config.stash.get(RUN, None)
    if run is not None and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        code_of = exit_codes.code_of_cases if session.config.getoption("bisect") else exit_code
        session.exitstatus = code_of([record.verdict for record in run.records])


# One case


def is_vm_case(item: pytest.Item) -> bool:
    """Whether an item is judged by us: it takes a session, directly or through other fixtures."""
    return "session" in getattr(item, "fixturenames", ())


def identify(item: pytest.Item) -> Identity:
    """What a case is: its area from its contract marker, its title from its docstring's first line."""
    mark = item.get_closest_marker("contract")
    params: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    doc = getattr(getattr(item, "obj", None), "__doc__", None) or item.name
    return Identity(
        id=f"{item.path.stem}::{item.name}",
        area=str(mark.args[0]) if mark else item.path.stem.removeprefix("test_"),
        title=doc.strip().splitlines()[0],
        importer=params.get("importer"),
        trigger=params.get("trigger"),
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Bracket a case: its clock starts here, and its verdict falls here."""
    if not is_vm_case(item):
        return (yield)
    case = item.stash[CASE] = Case(identify(item))
    with uncaptured(item.config):
        listener(item.config).case_started(case.identity.title)
    try:
        done = yield
    except BaseException as interrupt:  # Ctrl-C: no verdict, and no machine left for its fixtures to tidy up
        case.raised.append(interrupt)
        raise
    run = item.config.stash[RUN]
    record = run.conclude(case)
    run.add(record, len(run.records))
    with uncaptured(item.config):
        listener(item.config).case_done(record)
    if item.config.getoption("fail_fast") and exit_code([record.verdict]):
        item.session.shouldfail = "the first failure ends the run"
    return done


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, object, object]:
    """Keep what the case raised, for the judge."""
    case = item.stash.get(CASE, None)
    if case is not None and call.excinfo is not None:
        exc = call.excinfo.value
        case.raised.append(Skipped(exc.msg) if isinstance(exc, pytest.skip.Exception) else exc)
    return (yield)


# What cases take


def needed(item: pytest.Item) -> Iterator[str]:
    """What neither machine nor kernel may lack for a case: what it says itself, and what its importer needs."""
    for mark in item.iter_markers("needs"):
        yield from mark.args
    if kind := IMPORTERS.get(identify(item).importer or ""):
        yield from (kind.needs, kind.feature)
    if "attach" in getattr(item, "fixturenames", ()):
        yield from ("dma-api", "test_importer")


@pytest.fixture
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    """A booted machine with its agent, and nothing open in it. What the case leaves open is closed, and must close."""
    setup = request.config.stash[RUN].setup
    if reason := next(filter(None, map(setup.lacks, needed(request.node))), ""):
        pytest.skip(reason)
    case: Case = request.node.stash[CASE]
    session = request.config.stash[RUN].session_for(case)
    yield session
    if not session.unusable and judge(case.raised, []).verdict not in NEEDS_FRESH_MACHINE:
        must(not (refused := session.reset()), "everything that a case opened can be closed", refused)
        must(not (left := session.bufinfo()), "no dma-buf outlives its last user", left)
        case.left_clean = True


@pytest.fixture
def watch(request: pytest.FixtureRequest, session: Session) -> Watch:
    """What the host has seen since the case began."""
    found: Watch | None = request.node.stash[CASE].watch
    assert found is not None, "session has set it"
    return found


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """What the case's dice are thrown from; it is part of its verdict."""
    case, run = request.node.stash[CASE], request.config.stash[RUN]
    case.seed = run.setup.options.seed
    return int(case.seed)


@pytest.fixture
def features(request: pytest.FixtureRequest) -> Mapping[str, bool]:
    """What the kernel under test can do: guest-images/kernel/requirements.yaml has the names."""
    return request.config.stash[RUN].setup.kernel.features


@pytest.fixture
def nvme(session: Session) -> Nvme:
    """The controller under test, open through its cdev and started."""
    return session.open_nvme()


@pytest.fixture
def attach(session: Session) -> Callable[..., Attachment]:
    """``Session.attach``. Unless ``device_id`` is given, with the NIC of rxe, which has a driver that knows nothing of
    it."""
    return partial(session.attach, device_id=session.machine.config.with_role("roce")[0].id)


@pytest.fixture
def importer(request: pytest.FixtureRequest, session: Session) -> Importer:
    """The importer that the case's parameter names."""
    return session.importer(request.param)
