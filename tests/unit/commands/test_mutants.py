# SPDX-License-Identifier: GPL-2.0-only
"""``mutants``: a mutant is judged against its control, whichever of the two ends first."""

import json
from pathlib import Path

import pytest
from run_records import run_record

from harness.bugs import Bug
from harness.commands.catalogue_mutants import _Work, survivors_on
from harness.commands.children import Ended, Task
from harness.errors import UsageError
from harness.progress import Event
from harness.report.outcomes import MutantOutcome
from harness.run.options import Options
from harness.verdict import CaseRecord, Verdict

CONTROL = "control-intel-iommu-release"
OTHER_CONTROL = "control-aer-release"


def bug(name: str, machine: str = "intel-iommu", survives_on: tuple[str, ...] = ()) -> Bug:
    texts = dict.fromkeys(("title", "reporter", "thread", "affected", "fixed", "symptom", "trigger"), "-")
    data = {"id": name, **texts, "date": "2026", "machine": machine, "survives_on": survives_on}
    expects = {"verdict": "FAIL", "cases": ["test_a::*"], "reason": "broken"}
    mutation = {"files": ["a.c"], "functions": ["f"], "kernels": ">=6.19", "cocci": "@@ @@"}
    return Bug.model_validate_json(json.dumps({**data, "expects": expects, "mutation": mutation}))


def ended(*verdicts: Verdict) -> Ended:
    cases = [
        CaseRecord(id=f"test_a::test_{number}", area="a", title="t", verdict=verdict, duration_s=1)
        for number, verdict in enumerate(verdicts)
    ]
    return Ended(0, 1.0, run_record(*cases))


@pytest.fixture
def emitted() -> list[Event]:
    return []


@pytest.fixture
def work(tmp_path: Path, emitted: list[Event]) -> _Work:
    return _Work([bug("one"), bug("two", "aer")], [], Options(), tmp_path, jobs=2, emit=emitted.append)


def end(work: _Work, name: str, run: Ended) -> None:
    work.ended(Task(name, Options(), Path(name)), run)


def test_a_mutant_waits_for_its_control(work: _Work, emitted: list[Event]) -> None:
    end(work, "one", ended(Verdict.PASS, Verdict.FIXED))
    end(work, OTHER_CONTROL, ended(Verdict.PASS))
    assert not work.mutants
    end(work, CONTROL, ended(Verdict.PASS, Verdict.KNOWN))
    (mutant,) = work.mutants
    decided = (mutant.outcome, mutant.case, mutant.was, mutant.verdict)
    assert decided == (MutantOutcome.CHANGED, "test_a::test_1", Verdict.KNOWN, Verdict.FIXED)
    assert "one: KNOWN -> FIXED by test_a::test_1" in str(emitted[-1])


def test_a_mutant_is_judged_at_once_if_its_control_has_ended(work: _Work) -> None:
    end(work, OTHER_CONTROL, ended(Verdict.PASS))
    end(work, "two", ended(Verdict.PASS, Verdict.FIXED))
    assert [mutant.outcome for mutant in work.mutants] == [MutantOutcome.SURVIVED], "the control did not run that case"


def test_a_control_without_a_record_leaves_only_blame(work: _Work) -> None:
    end(work, CONTROL, Ended(3, 1.0, None))
    end(work, "one", ended(Verdict.FAIL))
    assert [(mutant.outcome, mutant.was) for mutant in work.mutants] == [(MutantOutcome.CAUGHT, None)]


def test_a_bug_that_survives_elsewhere_is_missed_there(tmp_path: Path) -> None:
    (entry,) = survivors_on("intel-iommu", [bug("one"), bug("two", "aer", ("intel-iommu",))])
    work = _Work([entry], [], Options(), tmp_path, jobs=1, emit=lambda event: None)
    control, mutant = work.tasks(whole=False)
    assert (control.cases, mutant.options.machine, mutant.options.mutation) == ([], "intel-iommu", "two")
    assert not mutant.options.fail_fast, "a case that fails without the bug, too, would hide the others"
    end(work, CONTROL, ended(Verdict.FAIL, Verdict.KNOWN))
    end(work, "two", ended(Verdict.FAIL, Verdict.KNOWN))
    assert [found.outcome for found in work.mutants] == [MutantOutcome.MISSED]


@pytest.mark.parametrize(
    ("seen", "outcome"),
    [
        (Verdict.FAIL, MutantOutcome.UNEXPECTED),
        (Verdict.FIXED, MutantOutcome.CHANGED),
        (Verdict.ERROR, MutantOutcome.ERROR),
    ],
)
def test_a_bug_that_does_not_survive_where_it_should_is_reported(
    tmp_path: Path, seen: Verdict, outcome: MutantOutcome
) -> None:
    found = survivors_on("intel-iommu", [bug("two", "aer", ("intel-iommu",))])
    work = _Work(found, [], Options(), tmp_path, jobs=1, emit=lambda event: None)
    end(work, CONTROL, ended(Verdict.PASS))
    end(work, "two", ended(seen))
    assert [mutant.outcome for mutant in work.mutants] == [outcome]


def test_a_machine_on_which_no_bug_survives_is_refused() -> None:
    with pytest.raises(UsageError, match="no entry has aer in survives_on"):
        survivors_on("aer", [bug("one")])
    with pytest.raises(UsageError, match="nosuch"):
        survivors_on("nosuch", [bug("one")])
