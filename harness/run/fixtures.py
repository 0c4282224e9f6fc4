# SPDX-License-Identifier: GPL-2.0-only
"""The fixtures that cases take."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path

import pytest

from harness.cases import kernel_tests
from harness.cases.kernel_tests import Program
from harness.cases.must import must
from harness.kernel import selftests
from harness.progress import phase
from harness.run.case import Case
from harness.run.context import CASE, REPETITION, RUN
from harness.run.judge import judge
from harness.run.select import covered_rows, needed_capabilities
from harness.session import Attachment, Importer, Nvme, Session
from harness.verdict import NEEDS_FRESH_MACHINE
from harness.witness import Watch


@pytest.fixture
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    """A booted machine with its agent, and nothing open in it.

    After the case, everything that it left open is closed. Closing must succeed and leave no reference behind.
    """
    run = request.config.stash[RUN]
    if reason := next(filter(None, map(run.setup.lacks, needed_capabilities(request.node))), ""):
        pytest.skip(reason)
    case: Case = request.node.stash[CASE]
    session = run.session_for(case)
    if reason := run.pending.not_in_force(covered_rows(request.node), session):
        case.fail_nth = None  # nothing was swept
        _end(case, session)
        pytest.skip(reason)
    if case.fail_nth:
        case.fail_nth.begin(session)
    yield session
    session = run.current_session() or session  # the case may have replaced it
    if not session.unusable and judge(case.raised, []).verdict not in NEEDS_FRESH_MACHINE:
        _end(case, session)


def _end(case: Case, session: Session) -> None:
    refused = session.reset()
    failures = case.end_failures(session)
    must(not refused, "everything that a case opened can be closed", refused)
    must(not (left := session.references.left()), "a case leaves no reference", "; ".join(left))
    if case.fail_nth and failures:
        case.fail_nth.judge(session, failures)
    case.left_clean = True


@pytest.fixture
def watch(request: pytest.FixtureRequest, session: Session) -> Watch:
    """The witnesses' observations since the case began."""
    found: Watch | None = request.node.stash[CASE].watch
    assert found is not None, "session has set it"
    return found


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The random seed of the case; its record names it. Each repetition has its own."""
    case: Case = request.node.stash[CASE]
    seed = request.config.stash[RUN].setup.options.seed
    assert seed is not None, "the command line draws one"
    case.seed = seed + request.node.stash.get(REPETITION, 0)
    return case.seed


@pytest.fixture
def program(request: pytest.FixtureRequest) -> Path | None:
    """The file of the program that the run repeats; None for random programs."""
    return request.config.stash[RUN].setup.options.program


@pytest.fixture
def show_program(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Show the calls of a failure: they become part of the record of the case."""

    def show(text: str) -> None:
        request.node.stash[CASE].program = text

    return show


@pytest.fixture
def fresh_machine(request: pytest.FixtureRequest, session: Session) -> Callable[[], tuple[Session, Watch]]:
    """Replace the case's machine, which a step of the case may have damaged. Other fixtures keep the old session."""

    def renew() -> tuple[Session, Watch]:
        case: Case = request.node.stash[CASE]
        session = request.config.stash[RUN].renew_session(case)
        assert case.watch is not None, "renew_session has set it"
        return session, case.watch

    return renew


@pytest.fixture
def known_issues(request: pytest.FixtureRequest, session: Session) -> frozenset[str]:
    """The ids of the known issues (vm-configs/known-issues.yaml) that the kernel under test has."""
    return request.config.stash[RUN].known_issues


@pytest.fixture
def features(request: pytest.FixtureRequest) -> Mapping[str, bool]:
    """The capabilities of the kernel under test; guest-images/kernel/requirements.yaml has the names."""
    return request.config.stash[RUN].setup.kernel.features


@pytest.fixture(scope="session")
def build_kernel_test(request: pytest.FixtureRequest) -> Callable[[Program], bytes]:
    """Build one of the kernel's own tests. The case is SKIP, with the reason, if this kernel's do not build."""
    setup = request.config.stash[RUN].setup
    suites = kernel_tests.suites()

    @cache
    def built(suite: str) -> tuple[str, Path]:
        tests = suites[suite]
        with phase(setup.emit, suite, setup.kernel.release) as step:
            return selftests.build(setup.kernel, tests.directory, tests.host, step)

    def build(program: Program) -> bytes:
        reason, programs = built(program.suite)
        if not reason and not (programs / program.name).is_file():
            reason = f"this kernel's {program.tests.directory} has no {program.name}"
        if reason:
            pytest.skip(reason)
        return (programs / program.name).read_bytes()

    return build


@pytest.fixture
def nvme(session: Session) -> Nvme:
    """The controller under test, open through its cdev and started."""
    return session.open_nvme()


@pytest.fixture
def attach(session: Session) -> Callable[..., Attachment]:
    """``Session.attach``; by default with the NIC under rxe, whose driver does not use the importer."""
    return partial(session.attach, device_id=session.machine.config.with_role("roce")[0].id)


@pytest.fixture
def importer(request: pytest.FixtureRequest, session: Session) -> Importer:
    """The importer of the case's parameter."""
    return session.importer(request.param)
