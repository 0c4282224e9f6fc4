# SPDX-License-Identifier: GPL-2.0-only
"""Coverage from real counters: a small program, the host's gcc and the host's gcov."""

import subprocess
from pathlib import Path

import pytest

from harness.config.kernel_path import KernelPath
from harness.errors import HarnessError, UsageError
from harness.gcov.counters import Reached, cases, counted_files, save_case, save_notes
from harness.gcov.measure import FunctionCoverage, KernelCoverage, measure
from harness.gcov.reasons import Kind, Reason, Stale, find_gaps
from harness.report.coverage_page import shares

FILE = "drivers/x.c"
SOURCE = """int path(int a)
{
	if (a > 1 && a < 9)
		return 1;
	return 0;
}

int other(int a)
{
	return a;
}

int main(int argc, char **argv)
{
	return path(argc) + other(0) - path(argc);
}
"""
ONE, TWO = Reached("test_x::one", "m"), Reached("test_x::two", "m")
PATH = KernelPath(kernels=">=7", files={FILE: ["path"], "drivers/absent.c": ["f"]})


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A build directory with notes, and a program that writes counters."""
    top = tmp_path / "build"
    (top / "drivers").mkdir(parents=True)
    (top / FILE).write_text(SOURCE)
    subprocess.run(["gcc", "--coverage", "-c", FILE, "-o", "drivers/x.o"], cwd=top, check=True)
    subprocess.run(["gcc", "--coverage", "drivers/x.o", "-o", "program"], cwd=top, check=True)
    return top


@pytest.fixture
def run(build: Path, tmp_path: Path) -> Path:
    """A run of two cases: ``one`` calls with 1, ``two`` with 2."""
    directory = tmp_path / "run"
    directory.mkdir()
    save_notes(directory, [FILE], build, build)
    counters = build / "drivers" / "x.gcda"
    for case, arguments in (("test_x::one", []), ("test_x::two", ["a"])):
        counters.unlink(missing_ok=True)
        subprocess.run([build / "program", *arguments], check=True)
        save_case(
            directory, Reached(case, "m"), {str(counters): counters.read_bytes(), "/elsewhere/y.gcda": b"?"}, [FILE]
        )
    return directory


def test_each_case_has_the_lines_that_it_reaches(run: Path) -> None:
    assert {case for case, _ in cases(run)} == {ONE, TWO}
    found = measure([run], PATH)
    (function,) = found.functions.values()
    assert (function.file, function.name) == (FILE, "path")
    assert function.lines[3] == {ONE, TWO}
    assert function.lines[4] == {TWO}
    assert function.lines[5] == {ONE}
    assert found.reaching(FILE, "path", 4) == {TWO}
    assert found.reaching("another.c", "path", 4) == set()
    assert found.machines == {ONE.machine, TWO.machine}
    assert function.line_count[0] == function.line_count[1]
    taken, branches = function.branch_count
    assert taken == branches - 1, "no case has an argument of 9 or more"


def test_runs_are_merged(run: Path) -> None:
    (once,), (twice,) = measure([run], PATH).functions.values(), measure([run, run], PATH).functions.values()
    assert once == twice


def reason(*code: str, function: str = "*") -> Reason:
    return Reason(
        kernels=">=7", file=FILE, function=function, code=list(code), kind=Kind.OPEN, reason="no such argument"
    )


def test_a_gap_has_its_reason_or_counts_as_unexplained(run: Path) -> None:
    found = measure([run], PATH)
    gaps = find_gaps(found, [])
    assert [(gap.line, gap.reached, gap.branches) for gap in gaps.found] == [(3, True, 1)]
    assert gaps.unexplained == 1
    gaps = find_gaps(found, [reason("if (a > 1*")])
    assert gaps.unexplained == 0
    assert gaps.count(Kind.OPEN) == 1
    assert not gaps.stale


def test_branches_that_no_kernel_without_bugs_takes_are_counted_apart() -> None:
    function = FunctionCoverage(FILE, "path", {1: {ONE}, 2: set()}, {(1, 0): {ONE}, (1, 1): set(), (2, 0): set()})
    found = KernelCoverage({(FILE, "path"): function}, {FILE: ["if (a)", "WARN_ON(a)"]})
    never = reason("WARN_ON(a)").model_copy(update={"kind": Kind.ASSERTION})
    gaps = find_gaps(found, [never, reason("if (a)")])
    assert (gaps.impossible_branches, gaps.count(Kind.ASSERTION), gaps.count(Kind.OPEN)) == (1, 1, 1)
    assert (found.line_count, found.branch_count) == ((1, 2), (1, 3))
    assert shares(found, gaps) == (
        "1 of 2 lines (50.0%) and 1 of 3 branches (33.3%): 50.0% of the 2 that a kernel without bugs can take"
    )


def test_a_reason_for_what_is_reached_is_stale(run: Path) -> None:
    partly = reason("if (a > 1*", "return 0;")
    assert find_gaps(measure([run], PATH), [partly]).stale == [Stale(partly, "return 0;")]


def test_a_reason_for_another_function_is_no_reason_and_not_stale(run: Path) -> None:
    gaps = find_gaps(measure([run], PATH), [reason("*", function="another")])
    assert gaps.unexplained == 1
    assert not gaps.stale


def test_another_source_is_refused(run: Path, build: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (build / FILE).write_text(SOURCE + "\n")
    save_notes(other, [FILE], build, build)
    with pytest.raises(UsageError, match="differs from that of the runs before it"):
        measure([run, other], PATH)


def test_a_run_without_counters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no kernel coverage"):
        measure([tmp_path], PATH)


def test_a_build_without_notes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="not a coverage build"):
        counted_files(tmp_path, tmp_path)


def test_failing_allocations_are_a_way_of_their_own() -> None:
    plain, failing = Reached("a::x", "m"), Reached("a::x", "m", fail_nth=True)
    function = FunctionCoverage(FILE, "path")
    function.lines = {1: {plain, failing}, 2: {failing}, 3: {plain, failing}, 4: set()}
    function.branches = {(1, 0): {plain, failing}, (1, 1): {failing}, (3, 0): {plain}, (3, 1): set()}
    found = KernelCoverage({(FILE, "path"): function})
    lines = (1, 2, 3, 4, 5)
    assert [found.reaching(FILE, "path", line) for line in lines] == [{plain}, set(), {plain}, set(), set()]
    with_failures = [found.reaching(FILE, "path", line, fail_nth=True) for line in lines]
    assert with_failures == [{failing}, {failing}, set(), set(), set()]
    assert not found.reaching("another.c", "path", 1)


def test_a_line_without_a_counter_has_the_cases_of_its_neighbours() -> None:
    first, second, third = (Reached(f"a::{name}", "m") for name in "xyz")
    failing = Reached("a::x", "m", fail_nth=True)
    path = FunctionCoverage(FILE, "path", {2: {first}, 5: {second}, 9: {third}, 12: {failing}})
    found = KernelCoverage({(FILE, "path"): path, (FILE, "other"): FunctionCoverage(FILE, "other", {20: {third}})})
    assert found.reaching(FILE, "path", 3) == {first, second}
    assert found.reaching(FILE, "path", 1) == {first}
    assert found.reaching(FILE, "path", 10) == {third}
    assert found.reaching(FILE, "path", 10, fail_nth=True) == {failing}
    assert found.reaching(FILE, "inlined", 30) == {first, second, third}
    assert found.reaching(FILE, "inlined", 30, fail_nth=True) == {failing}
