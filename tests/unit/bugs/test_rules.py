# SPDX-License-Identifier: GPL-2.0-only
"""Mutants by rule: each rule finds its fault, keeps the line count, and leaves the rest alone."""

import pytest

from harness.bugs import rules

SOURCE = b"""
static int helper(struct thing *a, int b)
{
	int i, ret;

	if (!a->live || a->dead)
		return -ENODEV;
	mutex_lock(&a->lock);
	a->size += 1;
	a->name = NULL;
	for (i = 0; i < b + 1; i++)
		add(a,
			i);
	if (b == 3)
		goto out;
	use(a, true);
	mutex_unlock(&a->lock);
	put(a);
	return 0;
out:
	ret = b & 7;
	return ret;
}

static int UVERBS_HANDLER(UVERBS_METHOD_X)(struct bundle *attrs)
{
	if (attrs)
		return -EINVAL;
	return 0;
}
"""


def made(rule: str, function: str = "helper") -> list[str]:
    return [edit.describe(SOURCE) for edit in rules.edits(SOURCE, function) if edit.rule == rule]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("negate-condition", ["(!a->live || a->dead) -> (!(!a->live || a->dead))", "(b == 3) -> (!(b == 3))"]),
        ("never-taken", ["(!a->live || a->dead) -> (0 && (!a->live || a->dead))", "(b == 3) -> (0 && (b == 3))"]),
        ("drop-operand", ["!a->live || a->dead -> !a->live", "!a->live || a->dead -> a->dead"]),
        ("drop-call", ["mutex_lock(&a->lock); -> { }", "add(a, i); -> { }", "use(a, true); -> { }"]),
        ("drop-release", ["mutex_unlock(&a->lock); -> { }", "put(a); -> { }"]),
        ("drop-assignment", ["a->size += 1; -> { }", "a->name = NULL; -> { }"]),
        ("wrong-errno", ["ENODEV -> EINVAL"]),
        ("no-error", ["-ENODEV -> 0"]),
        ("wrong-operand", ["a, i -> i, a", "a, true -> true, a"]),
    ],
)
def test_each_rule_finds_its_faults(rule: str, expected: list[str]) -> None:
    assert made(rule) == expected


def test_calls_in_a_row_change_places() -> None:
    assert "mutex_unlock(&a->lock); put(a); -> put(a); mutex_unlock(&a->lock);" in made("swap-calls")


def test_bounds_operators_and_constants() -> None:
    assert {"< -> <=", "b + 1 -> b"} <= set(made("off-by-one"))
    assert {"|| -> &&", "== -> !=", "& -> |", "+= -> -="} <= set(made("wrong-operator"))
    assert {"true -> false", "3 -> 4", "7 -> 8"} <= set(made("wrong-constant"))


def test_an_edit_keeps_the_number_of_lines_and_changes_something() -> None:
    for edit in rules.edits(SOURCE, "helper"):
        changed = edit.apply(SOURCE)
        assert changed != SOURCE
        assert changed.count(b"\n") == SOURCE.count(b"\n")


def test_an_edit_names_its_line() -> None:
    (edit,) = [edit for edit in rules.edits(SOURCE, "helper") if edit.rule == "no-error"]
    assert SOURCE.splitlines()[edit.line - 1].strip() == b"return -ENODEV;"


def test_a_uverbs_handler_goes_by_its_method() -> None:
    assert made("no-error", "UVERBS_METHOD_X") == ["-EINVAL -> 0"]


def test_a_function_that_is_not_there_has_no_edits() -> None:
    assert rules.edits(SOURCE, "absent") == []
