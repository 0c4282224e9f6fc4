# SPDX-License-Identifier: GPL-2.0-only
"""``mutants --model``: which bugs it takes, and how it judges their runs."""

import pytest

from harness.bugs import load_bugs
from harness.cases.collect import collect
from harness.commands.model_mutants import of_lifecycle
from harness.report.model_mutants import ModelMutantRecord, ModelMutantsRecord
from harness.verdict import CaseRecord, KernelRecord, ProgramRecord, Verdict

PROGRAM = ProgramRecord(file="x.program", calls=["buffer0 = export()", "reset()"])


def case(verdict: Verdict, program: ProgramRecord | None = None) -> CaseRecord:
    return CaseRecord(
        id="test_model::test_programs[1]",
        area="model",
        title="",
        verdict=verdict,
        reason="broken: reset() revokes" if verdict is not Verdict.PASS else "",
        duration_s=30.0,
        program=program,
    )


def judged(*cases: CaseRecord, name: str = "bug") -> ModelMutantRecord:
    return ModelMutantRecord.of(name, cases, "")


def record(*mutants: ModelMutantRecord, control: ModelMutantRecord | None = None) -> ModelMutantsRecord:
    return ModelMutantsRecord(
        run_id="r",
        started="s",
        harness="0",
        kernel=KernelRecord(release="7.2.12", origin="o", config_hash="h"),
        seed=0,
        control=control,
        mutants=list(mutants),
    )


def test_the_bugs_are_those_that_a_lifecycle_row_shows() -> None:
    chosen = {entry.id for entry in of_lifecycle(load_bugs(), collect())}
    assert {"hot-reset-not-revoked", "revoke-does-not-wait", "kref-not-rearmed"} <= chosen
    assert not chosen & {"bar-bounds", "umem-dead-maps", "mr-iova-unchecked"}, "bugs of the uAPI and of importers"
    assert "hot-reset-unopened" not in chosen, "the suite runs on the default machine only"


def test_a_bug_is_found_if_a_program_blames_the_kernel() -> None:
    found = judged(case(Verdict.PASS), case(Verdict.FAIL, PROGRAM))
    assert (found.found, found.seconds) == (True, 60.0)
    assert str(found) == ("found        60.0 s  bug FAIL by buffer0 = export(); reset(): broken: reset() revokes")
    missed = judged(case(Verdict.PASS))
    assert not missed.found
    assert str(missed) == "not found    30.0 s  bug"


def test_a_run_that_fails_is_an_error() -> None:
    failed = ModelMutantRecord.of("bug", [], "the disk is full")
    assert (failed.verdict, failed.reason) == (Verdict.ERROR, "the disk is full")
    assert record(failed).exit_code == 3


@pytest.mark.parametrize(
    ("found", "missed", "control", "code"),
    [
        (1, 1, Verdict.PASS, 0),
        (1, 2, Verdict.PASS, 1),
        (2, 0, Verdict.FAIL, 1),
        (2, 0, None, 0),
    ],
)
def test_half_must_be_found_and_a_clean_kernel_must_pass(
    found: int, missed: int, control: Verdict | None, code: int
) -> None:
    runs = [judged(case(Verdict.SPLAT, PROGRAM))] * found + [judged(case(Verdict.PASS))] * missed
    clean = judged(case(control), name="control") if control else None
    made = record(*runs, control=clean)
    assert made.exit_code == code
    assert made.tally().startswith(f"{found} of {found + missed} found; target {(found + missed + 1) // 2}")
