# SPDX-License-Identifier: GPL-2.0-only
"""The verdict of a case: its record, when its machine is discarded, and the order of records."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.cases.must import ContractBroken
from harness.errors import AgentLost, BlindWitness, GuestCrashed, GuestHung, GuestOopsed, HarnessError, KernelComplained
from harness.report.record import RunDirectory
from harness.run import run_record
from harness.run.case import Case, Identity
from harness.run.fail_nth import FailNth
from harness.run.judge import Skipped
from harness.run.known_issues import KnownIssue
from harness.run.options import Options
from harness.run.run_record import Run
from harness.run.setup import Setup
from harness.session import Session
from harness.verdict import CaseRecord, Evidence, NoLongerSeen, Verdict
from harness.witness import Splat, Watch
from harness.witness.watch import Observed

IDENTITY = Identity("test_a::test_x[edu]", "doorbell", "It rings.", "edu", "reset")
ISSUE = {
    "id": "live",
    "title": "a mapping stays live",
    "cases": ["test_a::test_x*"],
    "kernels": ">=7",
    "symptom": {"verdicts": ["FAIL"], "reason": "broken: dead; seen: live"},
    "review_by": "8.0",
    "evidence": "seen",
    "link": "a.c:1",
}


class FakeWatch:
    """Witnesses with the observations that a test gives them."""

    def __init__(
        self,
        splats: Sequence[str] = (),
        evidence: Sequence[Evidence] = (),
        blind: str | None = None,
        defects: tuple[str, ...] = (),
    ) -> None:
        self._splats = [Splat("WARNING", title, title, title) for title in splats]
        self._evidence = list(evidence)
        self._blind = blind
        self._defects = defects

    def collect(self) -> Observed:
        return Observed([], [], [], self._splats, [], self._evidence, self._blind, self._defects)


class RunWithoutMachines(Run):
    """A run that counts how often it discards its machine."""

    discards = 0

    def __init__(self, directory: Path, options: Options | None = None) -> None:
        kernel, machine = SimpleNamespace(release="7.2.12", config={}), SimpleNamespace(name="intel-iommu")
        setup = SimpleNamespace(kernel=kernel, machine=machine, options=options or Options())
        super().__init__(cast(Setup, setup), RunDirectory(directory), [])
        self._pool = cast(Any, SimpleNamespace(discard=self._count, current=None))

    def _count(self) -> None:
        self.discards += 1


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunWithoutMachines:
    monkeypatch.setattr(run_record, "catalogue", lambda: [])
    return RunWithoutMachines(tmp_path)


def case(*raised: BaseException, watch: FakeWatch | None = None, clean: bool = True) -> Case:
    watched = cast(Watch, watch or FakeWatch())
    return Case(IDENTITY, raised=list(raised), watch=watched, left_clean=clean, seed=7, ran_in="machine-1")


def test_the_record_has_the_case_and_its_state(run: RunWithoutMachines) -> None:
    record = run.conclude(case())
    assert (record.id, record.area, record.title) == ("test_a::test_x[edu]", "doorbell", "It rings.")
    assert (record.importer, record.trigger, record.seed, record.ran_in) == ("edu", "reset", 7, "machine-1")
    assert (record.verdict, record.reason, record.known_issue) == (Verdict.PASS, "", None)


@pytest.mark.parametrize(
    ("raised", "verdict", "discards"),
    [
        ((), Verdict.PASS, 0),
        ((ContractBroken("broken: x"),), Verdict.FAIL, 0),
        ((GuestHung("deadline"),), Verdict.HANG, 1),
        ((GuestCrashed("panic"),), Verdict.CRASH, 1),
        ((GuestOopsed("oops"),), Verdict.SPLAT, 1),
        ((KernelComplained("WARNING, after reset()"),), Verdict.SPLAT, 1),
        ((AgentLost("cut"),), Verdict.ERROR, 1),
        ((ContractBroken("broken: x"), GuestCrashed("panic")), Verdict.CRASH, 1),
    ],
)
def test_a_machine_is_discarded_after_a_verdict_that_may_have_damaged_it(
    run: RunWithoutMachines, raised: tuple[BaseException, ...], verdict: Verdict, discards: int
) -> None:
    assert run.conclude(case(*raised)).verdict is verdict
    assert run.discards == discards


def test_a_machine_is_discarded_if_something_was_left_open(run: RunWithoutMachines) -> None:
    assert run.conclude(case(clean=False)).verdict is Verdict.PASS
    assert run.discards == 1


@pytest.mark.parametrize(
    ("ended", "again"),
    [
        (case(), True),
        (case(ContractBroken("broken: x")), False),
        (case(watch=FakeWatch(splats=["WARNING in x"])), False),
        (case(watch=FakeWatch(blind="the trace is cut")), False),
        (case(clean=False), False),
    ],
)
def test_only_a_good_pass_with_failures_left_is_followed_by_another(
    run: RunWithoutMachines, ended: Case, again: bool
) -> None:
    assert not run.repeats(ended)
    ended.fail_nth = cast(FailNth, SimpleNamespace(finished=True))
    assert not run.repeats(ended)
    ended.fail_nth = cast(FailNth, SimpleNamespace(finished=False))
    ended.on_call("Device.reset()")
    assert run.repeats(ended) is again
    assert bool(ended.calls) is not again
    assert not (again and ended.left_clean)


def test_a_case_that_had_no_machine_discards_none(run: RunWithoutMachines) -> None:
    skipped = Case(IDENTITY, raised=[Skipped("this kernel lacks rxe")])
    assert run.conclude(skipped).verdict is Verdict.SKIP
    assert run.discards == 0


def test_a_splat_gives_the_verdict_and_a_fresh_machine(run: RunWithoutMachines) -> None:
    record = run.conclude(case(watch=FakeWatch(["WARNING in f"])))
    assert (record.verdict, record.reason, run.discards) == (Verdict.SPLAT, "WARNING in f", 1)


def test_a_case_has_the_time_of_its_start(run: RunWithoutMachines) -> None:
    one = case()
    one.began -= 30
    one.earlier_s = 30
    record = run.conclude(one)
    assert record.started
    ago = datetime.now(UTC) - datetime.fromisoformat(record.started)
    assert timedelta(seconds=59.9) < ago < timedelta(seconds=90)
    assert record.started.endswith("+00:00")


def test_a_program_is_kept_in_a_file_of_the_run(run: RunWithoutMachines) -> None:
    one = case(ContractBroken("broken: x"))
    one.program = "buffer0 = export()\nreset()\n"
    program = run.conclude(one).program
    assert program
    assert program.calls == ["buffer0 = export()", "reset()"]
    assert Path(program.file) == run.directory.path / "test-x-edu.program"
    assert Path(program.file).read_text() == one.program
    assert run.conclude(case()).program is None


def test_a_case_goes_on_with_a_fresh_machine(run: RunWithoutMachines, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = cast(Session, object())

    def session_for(case: Case) -> Session:
        case.began = 0.0
        return fresh

    monkeypatch.setattr(run, "session_for", session_for)
    one = case()
    one.began = 7.0
    assert run.renew_session(one) is fresh
    assert (run.discards, one.began) == (1, 7.0), "the time of the case goes on"


def test_witnesses_that_did_not_see_make_an_error(run: RunWithoutMachines) -> None:
    record = run.conclude(case(watch=FakeWatch(blind="the trace was lost")))
    assert (record.verdict, record.reason) == (Verdict.ERROR, "the trace was lost")


DEFECT = "the model of nvme0 failed: ZeroDivisionError()"


def test_the_defect_of_a_device_explains_a_failure_and_spoils_a_pass(run: RunWithoutMachines) -> None:
    for ended in (case(watch=FakeWatch(defects=(DEFECT,))), case(BROKEN, watch=FakeWatch(defects=(DEFECT,)))):
        record = run.conclude(ended)
        assert record.verdict is Verdict.ERROR
        assert record.reason.startswith(DEFECT)


BROKEN = ContractBroken("broken: live; seen: nothing")
UNSEEN = BlindWitness("blind witness, doorbell trace: none was seen")


@pytest.mark.parametrize(
    ("found", "verdict", "reason"),
    [
        (UNSEEN, Verdict.ERROR, f"{UNSEEN}; the case had found FAIL: {BROKEN}"),
        (None, Verdict.FAIL, str(BROKEN)),
        (GuestHung("no answer"), Verdict.FAIL, str(BROKEN)),
    ],
    ids=["it is faulty", "it is sound", "it cannot be checked"],
)
def test_a_device_of_ours_is_checked_before_the_kernel_is_blamed(
    run: RunWithoutMachines,
    monkeypatch: pytest.MonkeyPatch,
    found: Exception | None,
    verdict: Verdict,
    reason: str,
) -> None:
    steps: list[str] = []

    def prove_devices(*args: object) -> None:
        steps.append("prove")
        if found:
            raise found

    machine = SimpleNamespace(device_logs={"nvme0": Path("log")})
    session = SimpleNamespace(machine=machine, unusable=False, reset=lambda: steps.append("reset"))
    run._pool = cast(Any, SimpleNamespace(discard=run._count, current=session))
    run._witnesses = cast(Any, (session, None))
    monkeypatch.setattr(run_record, "Stimuli", lambda _: SimpleNamespace(release=lambda: steps.append("release")))
    monkeypatch.setattr(run_record, "prove_devices", prove_devices)
    record = run.conclude(case(BROKEN))
    assert (record.verdict, record.reason) == (verdict, reason)
    assert steps == ["reset", "release", "prove"]
    steps.clear()
    machine.device_logs.clear()
    assert run.conclude(case(BROKEN)).verdict is Verdict.FAIL
    assert not steps, "QEMU's own devices are not checked again"


@pytest.mark.parametrize("says", ["device nvme0 is faulty", ""], ids=["it is faulty", "it is sound"])
@pytest.mark.parametrize(
    ("ended", "verdict"),
    [
        (lambda: case(GuestHung("no answer")), Verdict.HANG),
        (lambda: case(GuestCrashed("panic")), Verdict.CRASH),
        (lambda: case(GuestOopsed("oops")), Verdict.SPLAT),
        (lambda: case(watch=FakeWatch(["WARNING in f"])), Verdict.SPLAT),
        (lambda: case(BROKEN, watch=FakeWatch(["WARNING in f"])), Verdict.SPLAT),
    ],
    ids=["hang", "crash", "oops", "splat", "splat and fail"],
)
def test_a_device_of_ours_is_checked_from_the_host_if_the_guest_is_of_no_use(
    run: RunWithoutMachines,
    monkeypatch: pytest.MonkeyPatch,
    ended: Callable[[], Case],
    verdict: Verdict,
    says: str,
) -> None:
    asked: list[float] = []

    def fault(machine: object, since: float) -> str:
        asked.append(since)
        return says

    machine = SimpleNamespace(device_logs={"nvme0": Path("log")})
    session = SimpleNamespace(machine=machine, unusable=True)
    run._pool = cast(Any, SimpleNamespace(discard=run._count, current=session))
    run._witnesses = cast(Any, (session, None))
    monkeypatch.setattr(run_record, "device_check", SimpleNamespace(fault=fault))
    one = ended()
    record = run.conclude(one)
    assert asked == [one.began]
    assert record.verdict is (Verdict.ERROR if says else verdict)
    assert record.reason.startswith(f"{says}; the case had found {verdict}: " if says else "")
    assert run.discards == 1


@pytest.mark.parametrize("says", ["config space at 0x0 reads as 1, 2", ""], ids=["it is faulty", "it is sound"])
def test_a_device_that_is_faulty_in_config_space_spoils_a_pass(
    run: RunWithoutMachines, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    session = SimpleNamespace(machine=SimpleNamespace(device_logs={"nvme0": Path("log")}))
    run._pool = cast(Any, SimpleNamespace(discard=run._count, current=session))
    monkeypatch.setattr(run_record, "device_check", SimpleNamespace(changing_config=lambda machine: says))
    record = run.conclude(case())
    assert record.verdict is (Verdict.ERROR if says else Verdict.PASS)
    assert record.reason == (f"{says}; the case had passed" if says else "")


def test_a_hang_after_a_defect_of_a_device_is_no_hang_of_the_kernel(run: RunWithoutMachines) -> None:
    record = run.conclude(case(GuestHung("no answer"), watch=FakeWatch(defects=(DEFECT,))))
    assert record.verdict is Verdict.ERROR
    assert record.reason.startswith(f"{DEFECT}; the case had found HANG: no answer")


def test_evidence_of_all_sources_is_in_order_of_time(run: RunWithoutMachines) -> None:
    error = HarnessError("lost")
    error.add_note("console: the end")
    one = case(error, watch=FakeWatch(evidence=[Evidence(t=0.0, source="trace", text="a doorbell")]))
    one.began -= 5
    one.on_call("VFIO_DEVICE_RESET")
    record = run.conclude(one)
    assert [item.source for item in record.evidence] == ["trace", "guest", "console"]
    assert [item.t for item in record.evidence] == sorted(item.t for item in record.evidence)


def test_a_known_issue_keeps_the_reason_and_discards_by_the_verdict_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue = KnownIssue.model_validate_json(json.dumps(ISSUE))
    monkeypatch.setattr(run_record, "catalogue", lambda: [issue])
    run = RunWithoutMachines(tmp_path)
    record = run.conclude(case(ContractBroken("broken: dead; seen: live")))
    assert (record.verdict, record.known_issue) == (Verdict.KNOWN, "live")
    assert record.reason == "broken: dead; seen: live"
    assert run.conclude(case()).verdict is Verdict.FIXED


def result(name: str, verdict: Verdict = Verdict.PASS) -> CaseRecord:
    return CaseRecord(id=name, area="a", title="t", verdict=verdict, duration_s=1.0)


def test_records_are_in_the_order_of_the_cases_not_of_their_ends(run: RunWithoutMachines) -> None:
    for position in (3, 0, 2, 1):
        run.add(result(str(position)), position)
    run.add(result("last"))
    assert [record.id for record in run.records] == ["0", "1", "2", "3", "last"]


@pytest.mark.parametrize("verdict", Verdict)
def test_fail_fast_stops_at_the_first_bad_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdict: Verdict
) -> None:
    monkeypatch.setattr(run_record, "catalogue", lambda: [])
    for fail_fast in (True, False):
        run = RunWithoutMachines(tmp_path, Options(fail_fast=fail_fast))
        run.add(result("good"))
        assert not run.stops
        run.add(result("it", verdict))
        bad = verdict in {Verdict.FAIL, Verdict.SPLAT, Verdict.HANG, Verdict.CRASH, Verdict.ERROR}
        assert run.stops == (fail_fast and bad)


@pytest.mark.parametrize(
    ("options", "listed"),
    [
        (Options(series="a.patch"), True),
        (Options(mutation="a-bug"), True),
        (Options(series="a.patch", fixed=True), True),
        (Options(fixed=True), False),
        (Options(kernel="~/linux"), False),
    ],
)
def test_what_a_changed_kernel_has_fixed_is_listed(options: Options, listed: bool) -> None:
    def record(verdict: Verdict) -> CaseRecord:
        return CaseRecord(id=verdict, area="a", title="t", verdict=verdict, duration_s=1, known_issue="live")

    found = run_record.no_longer_seen([*map(record, Verdict)], options)
    assert found == ([NoLongerSeen(issue="live", case="FIXED")] if listed else [])
