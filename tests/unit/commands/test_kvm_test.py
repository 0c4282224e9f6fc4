# SPDX-License-Identifier: GPL-2.0-only
"""``kvm-test``: which runs it plans, and what its exit code says."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.commands import kvm_test
from harness.commands.kvm_test import AGAIN, REQUIRED, REST, judged, planned, run_of_errors, with_errors_again
from harness.config import load_machine
from harness.errors import HarnessError, UsageError
from harness.kernel import Kernel
from harness.nested import recipe
from harness.nested.job import Run
from harness.nested.outer import OuterCrashedError
from harness.paths import TOP
from harness.progress import Event, Note, silent
from harness.report import RunDirectory, load
from harness.report.merge import merge
from harness.report.text import summarise
from harness.run.options import Options
from harness.verdict import RunRecord, Verdict, exit_code
from harness.vm import Qemu

RECORD = TOP / "tests" / "unit" / "data" / "reports" / "before-renames.json"
RUNS = [Run(REQUIRED, []), Run(REST, [])]


def ended(
    top: Path,
    name: str,
    code: int,
    verdicts: Sequence[Verdict] | None = (Verdict.PASS,),
    *,
    accel: str = "kvm",
    number: int = 0,
) -> None:
    """Write the results of a run inside. ``number``: of the run, to tell its record and its cases from others."""
    directory = top / name
    directory.mkdir()
    (directory / "exit-code").write_text(f"{code}\n")
    if verdicts is None:
        return
    record: dict[str, Any] = json.loads(RECORD.read_text())
    record["run_id"] += str(number)
    record["host"] |= {"accel": accel, "accel_reason": "because"}
    case = record["cases"][0]
    record["cases"] = [
        {**case, "id": f"test_{number}::test_{place}", "verdict": each} for place, each in enumerate(verdicts)
    ]
    (directory / "report.json").write_text(json.dumps(record))


def code_of(directory: Path) -> int:
    """Return the exit code of the runs in a directory."""
    return exit_code([case.verdict for _, record in judged(directory, RUNS, silent) for case in record.cases])


@pytest.mark.parametrize(
    ("required", "rest", "code"),
    [
        ([Verdict.PASS], [Verdict.SKIP], 0),
        ([Verdict.PASS], [Verdict.CRASH], 1),
        ([Verdict.FAIL], [Verdict.ERROR], 1),
        ([Verdict.PASS], [Verdict.ERROR], 3),
    ],
)
def test_the_exit_code_is_that_of_all_cases(
    tmp_path: Path, required: list[Verdict], rest: list[Verdict], code: int
) -> None:
    ended(tmp_path, REQUIRED, exit_code(required), required)
    ended(tmp_path, REST, exit_code(rest), rest)
    assert code_of(tmp_path) == code


def test_the_rest_may_be_cut_off_by_the_deadline(tmp_path: Path) -> None:
    ended(tmp_path, REQUIRED, 0)
    ended(tmp_path, REST, 130, [Verdict.PASS, Verdict.PASS])
    assert code_of(tmp_path) == 0


def test_the_rest_may_not_start_at_all(tmp_path: Path) -> None:
    ended(tmp_path, REQUIRED, 0)
    assert code_of(tmp_path) == 0


def test_required_cases_that_were_not_judged_are_an_error(tmp_path: Path) -> None:
    ended(tmp_path, REQUIRED, 130)
    with pytest.raises(HarnessError, match="the deadline ended the required cases after 1"):
        code_of(tmp_path)


def test_a_kernel_at_fault_is_not_hidden_by_the_deadline(tmp_path: Path) -> None:
    ended(tmp_path, REQUIRED, 130, [Verdict.FAIL])
    assert code_of(tmp_path) == 1


def test_cases_under_tcg_prove_nothing(tmp_path: Path) -> None:
    ended(tmp_path, REQUIRED, 0, accel="tcg")
    with pytest.raises(HarnessError, match="did not choose KVM: because"):
        code_of(tmp_path)


@pytest.mark.parametrize(("code", "kind"), [(2, UsageError), (3, HarnessError), (137, HarnessError)])
def test_a_run_without_a_record_is_no_verdict(tmp_path: Path, code: int, kind: type[HarnessError]) -> None:
    ended(tmp_path, REQUIRED, code, None)
    with pytest.raises(HarnessError, match=f"before its first case .exit code {code}") as caught:
        code_of(tmp_path)
    assert type(caught.value) is kind


def test_an_exit_code_that_does_not_fit_the_verdicts_is_an_error(tmp_path: Path) -> None:
    ended(tmp_path, REQUIRED, 137)
    with pytest.raises(HarnessError, match="137, does not fit its verdicts"):
        code_of(tmp_path)


def test_what_ended_a_run_inside_is_reported(tmp_path: Path) -> None:
    ended(tmp_path, REQUIRED, 3, None)
    error = {"exit_code": 3, "message": "this host's KVM cannot be used", "hint": "use --accel tcg"}
    (tmp_path / REQUIRED / "error.json").write_text(json.dumps(error))
    with pytest.raises(HarnessError, match=r"^inside: this host's KVM cannot be used$") as caught:
        code_of(tmp_path)
    assert caught.value.hint == "use --accel tcg"


def test_a_damaged_error_is_no_traceback(tmp_path: Path) -> None:
    ended(tmp_path, REQUIRED, 3, None)
    (tmp_path / REQUIRED / "error.json").write_text("[]")
    with pytest.raises(HarnessError, match="before its first case"):
        code_of(tmp_path)


def test_the_required_files_run_first_and_the_others_then() -> None:
    test = recipe.load()
    first, then = planned(Options(cpu_features="-xsave"), test, (), short=False)
    assert [Path(str(word)).name for word in first.arguments if str(word).endswith(".py")] == test.required
    assert not {str(word) for word in first.arguments if str(word).endswith(".py")} & set(map(str, then.arguments))
    assert "--cpu-features=-xsave" in first.arguments


def test_chosen_cases_are_all_required() -> None:
    (only,) = planned(Options(expression="cmb"), recipe.load(), (), short=False)
    assert only.arguments[-1] == kvm_test.paths.VM_CASES / "test_umem.py"
    assert [*only.arguments][[*only.arguments].index("-k") + 1] == "cmb"


def test_named_cases_are_all_required() -> None:
    named = ["/tests/vm/test_cmb.py::test_x[edu]"]
    (only,) = planned(Options(run_directory=Path("/r")), recipe.load(), named, short=False)
    assert [str(word) for word in only.arguments if "::" in str(word)] == named
    assert kvm_test.absolute("tests/vm/test_cmb.py::test_x[a/b]") == f"{Path.cwd()}/tests/vm/test_cmb.py::test_x[a/b]"


def test_one_report_has_the_cases_of_all_runs(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "results")
    for number, name in enumerate([REQUIRED, REST]):
        ended(directory.path, name, 0, number=number)
    found = [*judged(directory.path, [*RUNS, Run(AGAIN, [])], silent)]
    directory.write(merge(found, directory.path, directory.run_id), {}, "kvm-test")
    assert [case.id for case in load(tmp_path / "results" / "latest").cases] == ["test_0::test_0", "test_1::test_0"]


def test_a_case_with_error_has_the_verdict_of_its_second_run(tmp_path: Path) -> None:
    first = (Verdict.PASS, Verdict.ERROR, Verdict.FAIL, Verdict.CRASH)
    ended(tmp_path, REQUIRED, 1, first)
    ((_, record),) = judged(tmp_path, RUNS, silent)
    run = run_of_errors(record, Options())
    assert run
    assert [word for word in run.arguments if "::" in str(word)] == [kvm_test.paths.VM_CASES / "test_0.py::test_1"]
    ended(tmp_path, AGAIN, 0, (Verdict.ERROR, Verdict.PASS), number=1)
    report = tmp_path / AGAIN / "report.json"
    report.write_text(report.read_text().replace("test_1::", "test_0::"))
    (tmp_path / AGAIN / "exit-code").write_text("3\n")
    both = merge([*judged(tmp_path, [*RUNS, run], silent)], tmp_path, "r")
    assert [case.verdict for case in both.cases] == [Verdict.PASS, Verdict.PASS, Verdict.FAIL, Verdict.CRASH]
    assert run_of_errors(both, Options()) is None


@pytest.mark.parametrize(
    ("left_s", "raises", "said", "verdict"),
    [
        (200.0, False, "1 case with ERROR: once more, in a new outer machine", Verdict.PASS),
        (200.0, True, "again: the outer machine crashed", Verdict.ERROR),
        (100.0, False, "1 case with ERROR: no time is left to run it once more", Verdict.ERROR),
    ],
)
def test_a_second_run_needs_time_and_costs_no_verdict(
    tmp_path: Path, left_s: float, raises: bool, said: str, verdict: Verdict
) -> None:
    ended(tmp_path, REQUIRED, 3, [Verdict.ERROR])
    ((_, record),) = judged(tmp_path, RUNS, silent)
    record = record.model_copy(update={"summary": summarise(record.cases)})
    events: list[Event] = []

    def second(again: Run) -> RunRecord:
        if raises:
            raise OuterCrashedError("the outer machine crashed")
        cases = [case.model_copy(update={"verdict": Verdict.PASS}) for case in record.cases]
        return record.model_copy(update={"cases": cases})

    found = with_errors_again(record, Options(), left_s, second, events.append)
    assert [case.verdict for case in found.cases] == [verdict]
    assert events[-1] == Note(said)


def test_nothing_runs_again_without_an_error(tmp_path: Path) -> None:
    ended(tmp_path, REQUIRED, 1, [Verdict.PASS, Verdict.CRASH])
    ((_, record),) = judged(tmp_path, RUNS, silent)
    assert with_errors_again(record, Options(), 1000.0, lambda again: pytest.fail(again.name), silent) is record


def test_a_second_run_that_ends_early_says_why(tmp_path: Path) -> None:
    events: list[Event] = []
    ended(tmp_path, AGAIN, 3, None)
    (tmp_path / AGAIN / "error.json").write_text(json.dumps({"exit_code": 3, "message": "no disk", "hint": None}))
    assert not [*judged(tmp_path, [Run(AGAIN, [])], events.append)]
    assert events == [Note("again: inside: no disk")]


def test_a_run_inside_knows_that_its_kvm_is_emulated_and_a_night_runs_only_what_is_required() -> None:
    inside = Options(emulated_kvm=True, required=True)
    (only,) = planned(inside, recipe.load(), (), short=False)
    assert "--emulated-kvm" in only.arguments
    assert "--required" not in only.arguments


def test_short_takes_no_cases() -> None:
    with pytest.raises(UsageError, match="--short has two cases of its own"):
        kvm_test.kvm_test.main(["--short", "-k", "cmb"], standalone_mode=False)


def test_short_runs_two_cases() -> None:
    (only,) = planned(Options(), recipe.load(), (), short=True)
    assert sum("::" in str(word) for word in only.arguments) == 2


def test_the_outer_machine_has_memory_for_the_one_inside() -> None:
    outer = recipe.load().outer
    machine = load_machine("roce-pair")
    assert machine.peer
    memory = kvm_test.with_room_for(machine, outer).memory_mib
    assert memory == outer.memory_mib + machine.memory_mib + machine.peer.memory_mib


def test_a_source_of_links_is_seen_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "Makefile").touch()
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "Makefile").symlink_to(tmp_path / "real" / "Makefile")
    built = cast(Kernel, SimpleNamespace(source_dir=tmp_path / "links"))
    assert kvm_test.source_of(built) == [tmp_path / "links", tmp_path / "real"]
    assert kvm_test.source_of(cast(Kernel, SimpleNamespace(source_dir=None))) == []


@pytest.mark.parametrize(
    ("kernel", "inside"), [(None, None), ("debian:7.3", "debian:7.3"), ("linux", "/b"), ("linux@main", "/b")]
)
def test_the_kernel_inside_is_the_one_that_was_built_outside(kernel: str | None, inside: str | None) -> None:
    built = cast(Kernel, SimpleNamespace(build_dir=Path("/b")))
    qemu = cast(Qemu, SimpleNamespace(path=Path("/q")))
    options = kvm_test.inner_options(Options(kernel=kernel), built, qemu, "-xsave")
    assert (options.kernel, options.qemu, options.cpu_features) == (inside, "/q", "-xsave")
    assert options.emulated_kvm
    assert kvm_test.inner_options(Options(cpu_features="-avx"), built, qemu, "-xsave").cpu_features == "-avx"


def test_an_outer_machine_that_crashes_starts_again(tmp_path: Path) -> None:
    given: list[tuple[str, float]] = []

    def attempt(directory: Path, seconds: float) -> Path:
        given.append((directory.name, seconds))
        if len(given) < 3:
            raise OuterCrashedError("crashed")
        return directory

    assert kvm_test.run_again_if_crashed(attempt, tmp_path, 1000.0, silent) == tmp_path / "outer-3"
    assert [name for name, _ in given] == ["outer-1", "outer-2", "outer-3"]
    assert all(990.0 < seconds <= 1000.0 for _, seconds in given)


@pytest.mark.parametrize(("seconds", "attempts"), [(1000.0, 3), (100.0, 1)])
def test_an_outer_machine_that_always_crashes_is_an_error(tmp_path: Path, seconds: float, attempts: int) -> None:
    given: list[Path] = []

    def attempt(directory: Path, seconds: float) -> Path:
        given.append(directory)
        raise OuterCrashedError("crashed")

    with pytest.raises(OuterCrashedError):
        kvm_test.run_again_if_crashed(attempt, tmp_path, seconds, silent)
    assert len(given) == attempts
