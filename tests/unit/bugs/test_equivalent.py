# SPDX-License-Identifier: GPL-2.0-only
"""Equivalent automatic mutants: which entry is for a mutant."""

import pytest

from harness.bugs.equivalent import Equivalent, Key, equivalents

CHANGE: Key = ("x.c", "f", "wrong-operator", "|| -> &&")
"""File, function, rule and change of an entry."""


def entry(code: str) -> Equivalent:
    file, function, rule, change = CHANGE
    return Equivalent(file=file, function=function, rule=rule, change=change, code=code, reason="because")


@pytest.mark.parametrize(("code", "covered"), [("", True), ("if (a || b)", True), ("if (a || c)", False)])
def test_an_entry_with_code_is_for_that_line_only(code: str, covered: bool) -> None:
    assert entry(code).covers(CHANGE, "\tif (a || b)") is covered


def test_an_entry_is_for_its_own_function_only() -> None:
    file, _, rule, change = CHANGE
    assert not entry("").covers((file, "g", rule, change), "")


def test_each_entry_says_why() -> None:
    assert all(each.reason for each in equivalents())
