# SPDX-License-Identifier: GPL-2.0-only
"""The statement of each line, and marks that make gcov count it: by the host's gcc and gcov."""

import json
import subprocess
from pathlib import Path

from harness.bugs.statements import marked, statements

SOURCE = b"""\
int g(int a);
#define each(last, i) for (i = 0; i < *(last); i++)
int global = 3;
/* a comment */
int f(int a,
      int b)
{
	int ret;
	int set = a + 1;

	if (!a)
		return -22;
	if (a > 1 &&
		b)
		return -12;
	switch (a) {
	case 1:
		ret = -22;
		break;
	default:
		ret = g(
			b);
	}
	each(&a, b)
		g(b);
	if (ret) {
		ret = 3;
		goto out;
	} else {
		g(set);
	}
	return 0;
out:
	g(a);
	return ret;
}
int main(int argc, char **argv) { return f(argc - 1, 1) == -22 ? 0 : 1; }
int g(int a) { return a; }
"""
LINES = range(1, SOURCE.count(b"\n") + 1)


def first_lines() -> dict[int, int]:
    return {line: statement.line for line, statement in statements(SOURCE, LINES).items()}


def test_a_line_belongs_to_the_statement_that_it_is_part_of() -> None:
    found = first_lines()
    assert {line: found[line] for line in (11, 12, 14, 15, 18, 19, 22, 25, 30)} == {
        11: 11, 12: 12, 14: 13, 15: 15, 18: 18, 19: 19, 22: 21, 25: 25, 30: 30,
    }  # fmt: skip


def test_declarations_labels_braces_and_comments_have_no_code() -> None:
    found = first_lines()
    assert not {*range(1, 9), 10, 17, 20, 23, 29, 31, 33, 36} & found.keys()
    assert found[9] == 11, "a declaration that sets a variable counts as the first statement"


def test_a_mark_keeps_the_lines_and_each_statement_gets_a_counter(tmp_path: Path) -> None:
    text = marked(SOURCE, {*statements(SOURCE, LINES).values()})
    assert text.count(b"\n") == SOURCE.count(b"\n")
    assert counts(tmp_path, SOURCE).get(12) is None, "gcc keeps a counter of its own: the mark is needless"
    found = counts(tmp_path, text)
    for line, at in first_lines().items():
        if line != 24:  # the loop of a macro has counters of its own
            assert at in found, line
    assert (found[11], found[12], found[13], found[18], found[27]) == (1, 1, 0, 0, 0)


def test_what_a_macro_loops_over_stays_its_body(tmp_path: Path) -> None:
    text = marked(SOURCE, {*statements(SOURCE, [25]).values()})
    assert b'{ __asm__ volatile(""); g(b); }' in text


def counts(tmp_path: Path, text: bytes) -> dict[int, int]:
    """Compile and run, and return the count of each line that has a counter."""
    (tmp_path / "x.c").write_bytes(text)
    subprocess.run(["gcc", "-O2", "-w", "--coverage", "x.c", "-o", "x"], cwd=tmp_path, check=True)
    for old in tmp_path.glob("*.gcda"):
        old.unlink()
    subprocess.run(["./x"], cwd=tmp_path, check=True)
    (notes,) = tmp_path.glob("*.gcno")
    command = ["gcov", "--json-format", "--stdout", notes.name]
    ended = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    lines = json.loads(ended.stdout.splitlines()[0])["files"][0]["lines"]
    return {line["line_number"]: line["count"] for line in lines}
