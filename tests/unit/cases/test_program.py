# SPDX-License-Identifier: GPL-2.0-only
"""A program is text that can be read, edited and run again."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cases.program import Call, as_text, parse
from harness.errors import UsageError

TEXT = """\
buffer0 = export()
window0 = attach(buffer0, "rxe")
attachment0 = attach_driver(buffer0, "slow")
map(attachment0)
reset(closing=buffer0)
"""


def test_a_program_is_parsed_back_to_the_same_text() -> None:
    program = parse(f"# a comment\n{TEXT}", "x")
    assert as_text(program) == TEXT
    assert program[1] == Call("attach", ("buffer0", "rxe"), "window0")
    assert program[4] == Call("reset", (), None, "buffer0")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reset(", "x:1: "),
        ("\0", "x:1: "),
        ("reset()\nreset\n", "x:2: not a call of a program"),
        ("a, b = dup(buffer0)", "x:1: not a call of a program"),
        ("attach(buffer0, 1)", "x:1: not a call of a program"),
        ("reset(closing=1)", "x:1: not a call of a program"),
        ("reset(after=buffer0)", "x:1: not a call of a program"),
        ("a.reset()", "x:1: not a call of a program"),
    ],
)
def test_other_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(text, "x")


@settings(max_examples=200)
@given(st.text())
def test_any_text_is_a_program_or_refused(text: str) -> None:
    with suppress(UsageError):
        parse(text, "x")
