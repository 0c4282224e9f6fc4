# SPDX-License-Identifier: GPL-2.0-only
"""The verdict of programs of others. One that ends before it has judged is no fault of the kernel."""

import pytest

from harness.cases.must import ContractBroken
from harness.cases.program_verdict import judge
from harness.errors import HarnessError

WHOSE = "a test of the kernel's own"


def verdict(output: str, status: int | None = 0) -> str:
    """Return which of the four it is."""
    try:
        judge("program", status, output, 60.0, whose=WHOSE)
    except ContractBroken as error:
        return f"FAIL {error}"
    except pytest.skip.Exception as reason:
        return f"SKIP {reason.msg}"
    except HarnessError as error:
        return f"ERROR {error}"
    return "PASS"


@pytest.mark.parametrize(
    ("output", "status", "expected"),
    [
        ("1..2\nok 1 a\nok 2 b\n", 0, "PASS"),
        ("1..2\nok 1 a\nok 2 b # SKIP no driver\n", 0, "PASS"),
        ("1..2\nok 1 a # SKIP no driver\nok 2 b # SKIP other\n", 0, "SKIP no driver"),
        ("1..0 # SKIP no device\n", 4, "SKIP no device"),
        ("no driver\n", 4, "SKIP no driver"),
        ("1..2\nok 1 a\n", -11, "ERROR program gave 1 of 2 verdicts; it ended with status -11: ok 1 a"),
        ("1..2\nok 1 a # SKIP no driver\n", -11, "ERROR program gave 1 of 2 verdicts; it ended with status -11"),
        ("1..2\nok 1 a\n", None, "ERROR program gave 1 of 2 verdicts; within 60 s it did not end: ok 1 a"),
        ("1..1\nok 1 a\n", 1, "ERROR program gave 1 of 1 verdicts; it ended with status 1: ok 1 a"),
        ("", 1, "ERROR program gave 0 of its verdicts; it ended with status 1: no output"),
        ("1..1\n# a: Test terminated by timeout\nnot ok 1 a\n", 1, "ERROR program: its own timeout ended a: is the"),
    ],
)
def test_its_own_judgement_is_taken(output: str, status: int | None, expected: str) -> None:
    assert verdict(output, status).startswith(expected)


@pytest.mark.parametrize("status", [1, -11, None])
def test_a_failure_names_the_tests(status: int | None) -> None:
    found = verdict("1..3\nok 1 a\nnot ok 2 b\nnot ok 3 c\n", status)
    assert found.startswith("FAIL ")
    assert f"program, {WHOSE}, passes" in found
    assert "'b', 'c'" in found
