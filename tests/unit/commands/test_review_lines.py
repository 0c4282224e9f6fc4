# SPDX-License-Identifier: GPL-2.0-only
"""What is said of each changed line: on real counters of a small program, by the host's gcc and gcov."""

import subprocess
from pathlib import Path

import pytest

from harness.bugs.counted import CountedLines
from harness.bugs.statements import function_lines
from harness.commands.review_lines import NO_STATEMENT, NOT_C, NOT_COMPILED, LineCounters, judged_lines
from harness.commands.review_mutants import mutants_of_lines, spread_over_lines
from harness.commands.review_source import Reviewed
from harness.gcov.counters import Reached, save_case, save_notes
from harness.gcov.reasons import Kind, Reason
from harness.kernel.source.difference import FileDifference
from harness.report.review import LineState, ReviewedLine

FILE, OTHER = "drivers/x.c", "drivers/other.c"
NEW = """\
/* a comment */
struct s { int a; };
static int path(int a, struct s *s)
{
	int ret;

	if (!a)
		return -22;
	if (a > 9)
		return -12;
	ret = s->a +
		7;
	return ret;
}

int main(int argc, char **argv)
{
	struct s s = { argc };

	return path(argc - 1, &s) == -22;
}
"""
CASE = Reached("test_x::one", "m")


@pytest.fixture
def counters(tmp_path: Path) -> LineCounters:
    """A change that adds the whole program, another file that is not compiled, and a text; and a run."""
    differences = [
        FileDifference("Documentation/x.rst", None, b"text\n"),
        FileDifference(OTHER, None, b"int f(int a)\n{\n\treturn a;\n}\n"),
        FileDifference(FILE, None, NEW.encode()),
    ]
    reviewed = Reviewed(None, ("a",), differences)
    (tmp_path / "drivers").mkdir()
    for each in differences[1:]:
        (tmp_path / each.name).write_bytes(each.new or b"")
    marks = CountedLines({FILE: reviewed.changed[FILE]}).files(tmp_path)
    (tmp_path / FILE).write_bytes(marks[FILE] or b"")
    subprocess.run(["gcc", "-O2", "--coverage", "-c", FILE, "-o", "drivers/x.o"], cwd=tmp_path, check=True)
    subprocess.run(["gcc", "--coverage", "drivers/x.o", "-o", "program"], cwd=tmp_path, check=True)
    subprocess.run([tmp_path / "program"], check=False)
    save_notes(tmp_path, [FILE], tmp_path, tmp_path)
    data = tmp_path / "drivers" / "x.gcda"
    save_case(tmp_path, CASE, {str(data): data.read_bytes()}, [FILE])
    found = LineCounters(reviewed)
    found.add(tmp_path)
    return found


def states(counters: LineCounters, *reasons: Reason) -> dict[int, ReviewedLine]:
    return {line.line: line for line in judged_lines(counters, reasons) if line.file == FILE}


def test_each_statement_is_reached_or_not(counters: LineCounters) -> None:
    found = states(counters)
    assert {number for number, line in found.items() if line.state is LineState.REACHED} >= {7, 8, 18, 20}
    assert {number for number, line in found.items() if line.state is LineState.NOT_REACHED} == {9, 10, 11, 12, 13}
    assert found[8].cases == ["test_x::one on m"]
    assert (found[8].function, found[20].function) == ("path", "main")


def test_what_has_no_code_is_no_gap(counters: LineCounters) -> None:
    found = states(counters)
    assert {found[number].state for number in (1, 2, 4, 5, 6, 14, 15)} == {LineState.NO_CODE}
    assert found[1].reason == NO_STATEMENT
    others = {
        line.file: line.reason for line in judged_lines(counters, ()) if line.file != FILE and "return" in line.text
    }
    assert others == {OTHER: NOT_COMPILED}
    assert next(judged_lines(counters, ())).reason == NOT_C


def test_a_line_that_nothing_can_reach_has_its_reason(counters: LineCounters) -> None:
    def reason(kind: Kind, code: str) -> Reason:
        return Reason(kernels=">=7", file=FILE, function="path", code=[code], kind=kind, reason="it is so")

    found = states(counters, reason(Kind.IMPOSSIBLE, "return -12;"), reason(Kind.ELSEWHERE, "ret = *"))
    assert (found[10].state, found[10].reason) == (LineState.UNREACHABLE, "impossible: it is so")
    assert (found[11].state, found[11].reason) == (LineState.NOT_REACHED, "elsewhere: it is so")


def test_only_lines_that_a_case_reaches_have_mutants(counters: LineCounters) -> None:
    found = mutants_of_lines(counters)
    assert {mutant.edit.line for mutant in found} >= {7}
    assert all(mutant.edit.line not in (9, 10, 11, 12, 13) for mutant in found)


def test_the_cases_of_a_line_are_those_of_its_statement(counters: LineCounters) -> None:
    coverage = counters.as_coverage()
    assert coverage.reaching(FILE, "path", 8) == {CASE}
    assert coverage.reaching(FILE, "path", 12) == set()
    assert {name for name, _ in function_lines(NEW.encode())} == {"path", "main"}


def test_a_limit_takes_mutants_of_each_line_first(counters: LineCounters) -> None:
    found = mutants_of_lines(counters)
    lines = {mutant.edit.line for mutant in found}
    assert len(found) > len(lines) > 1
    chosen = spread_over_lines(found, len(lines) + 1)
    assert ({mutant.edit.line for mutant in chosen}, len(chosen)) == (lines, len(lines) + 1)
    assert len(spread_over_lines(found, 1)) == 1
    assert len(spread_over_lines(found, 1000)) == len(found)


def test_a_branch_that_only_failing_allocations_take(counters: LineCounters) -> None:
    """The line is reached in any run; a mutant of its condition is noticed where the other branch is taken."""
    starved = Reached("test_x::two", "m", fail_nth=True)
    assert counters.as_coverage().reaching(FILE, "path", 7, fail_nth=True) == set()
    assert counters.has_untaken()
    (never,) = [taken for (line, _), taken in counters.branches[FILE].items() if line == 7 and not taken]
    never.add(starved)
    coverage = counters.as_coverage()
    assert coverage.reaching(FILE, "path", 7, fail_nth=True) == {starved}
    assert coverage.reaching(FILE, "path", 7) == {CASE}
