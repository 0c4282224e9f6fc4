# SPDX-License-Identifier: GPL-2.0-only
"""The counters of a case: those of all its passes with failures, and marked as such."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.gcov.counters import Reached, cases
from harness.run import coverage
from harness.run.coverage import CaseCoverage
from harness.run.options import Options
from harness.run.setup import Setup
from harness.session import Session

CASE = "test_a::test_x"


def guest() -> tuple[Session, list[str]]:
    """Return a session, and the calls that its agent gets."""
    calls: list[str] = []

    def call(on: str, do: str) -> Any:
        calls.append(do)
        return {}

    return cast(Session, SimpleNamespace(agent=SimpleNamespace(call=call))), calls


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CaseCoverage:
    def save_notes(directory: Path, *arguments: object) -> None:
        (directory / "coverage").mkdir()

    monkeypatch.setattr(coverage, "save_notes", save_notes)
    monkeypatch.setattr(coverage, "counted_files", lambda *arguments: [])
    kernel = SimpleNamespace(release="7.2.12", source_dir=tmp_path, build_dir=tmp_path)
    setup = SimpleNamespace(kernel=kernel, machine=SimpleNamespace(name="m"), options=Options(fail_nth=True))
    return CaseCoverage(cast(Setup, setup), tmp_path)


def test_the_passes_of_a_case_add_up(counted: CaseCoverage) -> None:
    (first, calls), (second, later_calls) = guest(), guest()
    counted.start(CASE, first)
    counted.start(CASE, first)
    assert calls == ["reset"]
    counted.start(CASE, second)
    assert later_calls == ["reset"], "another machine has other counters"
    counted.start("test_a::test_y", second)
    assert later_calls == ["reset", "reset"]


def test_a_case_with_failures_is_marked(counted: CaseCoverage, tmp_path: Path) -> None:
    session, _ = guest()
    counted.finish(CASE, session)
    assert [case for case, _ in cases(tmp_path)] == [Reached(CASE, "m", fail_nth=True)]
