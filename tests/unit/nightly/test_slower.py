# SPDX-License-Identifier: GPL-2.0-only
"""Cases that take much longer than usual."""

from pathlib import Path
from typing import Any

from harness.nightly.cells import NightVerdicts
from harness.nightly.slower import slower_cases
from harness.verdict import CaseRecord, Verdict


def case(name: str, seconds: float) -> CaseRecord:
    return CaseRecord(id=name, area="a", title="The rule.", verdict=Verdict.PASS, duration_s=seconds)


def lines(nights: Any, make_run: Any, taken: dict[str, float], usual: dict[str, float]) -> list[str]:
    nights.cell("c", make_run([case(name, seconds) for name, seconds in taken.items()]))
    directory: Path = nights.write()
    return slower_cases(NightVerdicts.read(directory), {"c": usual}.__getitem__)


def test_the_longest_delay_comes_first(nights: Any, make_run: Any) -> None:
    taken, usual = {"a::one": 9.0, "a::two": 20.0}, {"a::one": 2.0, "a::two": 5.0}
    assert lines(nights, make_run, taken, usual) == [
        "a::two in c: 20.0 s, usually 5.0 s",
        "a::one in c: 9.0 s, usually 2.0 s",
    ]


def test_neither_a_short_delay_nor_a_small_factor_counts(nights: Any, make_run: Any) -> None:
    assert lines(nights, make_run, {"a::one": 1.9, "a::two": 15.0}, {"a::one": 0.1, "a::two": 10.0}) == []


def test_a_new_case_has_no_usual_time(nights: Any, make_run: Any) -> None:
    assert lines(nights, make_run, {"a::one": 60.0}, {}) == []
