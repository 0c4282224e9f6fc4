# SPDX-License-Identifier: GPL-2.0-only
"""Test a run with a blind witness: two boots, and an ERROR for every case that follows."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.errors import BlindWitness
from harness.report.record import RunDirectory
from harness.run import run_record
from harness.run.case import Case, Identity
from harness.run.options import Options
from harness.run.run_record import MAX_BLIND_BOOTS, Run
from harness.session.recording import Recording


class FakePool:
    """Each ``get`` is a boot: as after an ERROR, no session is kept."""

    def __init__(self, *arguments: object) -> None:
        self.boots = 0

    def get(self) -> Any:
        self.boots += 1
        trace = Path(f"machine-{self.boots}/trace.log")
        return SimpleNamespace(
            machine=SimpleNamespace(trace_path=trace),
            log_calls=lambda log: Recording({}),
            references=SimpleNamespace(start=lambda: None),
        )


def case() -> Case:
    return Case(Identity("test_x::test_y", "x", "A title."))


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the witnesses of the next boots are blind; the last holds for all later ones."""
    answers = [True]

    def prove(*arguments: object) -> None:
        if answers.pop(0) if len(answers) > 1 else answers[0]:
            raise BlindWitness("blind witness, doorbell trace: none was seen")

    monkeypatch.setattr(run_record, "prove", prove)
    monkeypatch.setattr(run_record, "SessionPool", FakePool)
    monkeypatch.setattr(run_record, "Witnesses", lambda machine: SimpleNamespace(watch=SimpleNamespace))
    monkeypatch.setattr(run_record, "Stimuli", lambda session: None)
    return answers


@pytest.fixture
def run(blind: list[bool], tmp_path: Path) -> Run:
    kernel, machine = SimpleNamespace(release="7.2.12", config={}), SimpleNamespace(name="intel-iommu")
    setup = SimpleNamespace(kernel=kernel, machine=machine, options=Options())
    return Run(cast(Any, setup), cast(RunDirectory, SimpleNamespace(path=tmp_path)), [])


def test_later_cases_fail_without_a_boot(run: Run) -> None:
    for number in range(MAX_BLIND_BOOTS + 3):
        under_way = case()
        with pytest.raises(BlindWitness, match="doorbell trace"):
            run.session_for(under_way)
        assert under_way.ran_in == (f"machine-{number + 1}" if number < MAX_BLIND_BOOTS else None)
    assert cast(FakePool, run._pool).boots == MAX_BLIND_BOOTS


def test_one_boot_that_sees_forgives_a_blind_one(run: Run, blind: list[bool]) -> None:
    blind[:] = [True, False, True, False]
    for is_blind in list(blind):
        if is_blind:
            with pytest.raises(BlindWitness):
                run.session_for(case())
        else:
            run.session_for(case())
