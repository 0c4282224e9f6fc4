# SPDX-License-Identifier: GPL-2.0-only
"""``audit``: one run for each machine and flavour, then one with each bug put back that no case has shown."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from run_records import run_record

from harness import verdict
from harness.bugs import Bug
from harness.bugs.catalogue import UpstreamFix
from harness.bugs.known_fixes import KnownFix
from harness.bugs.shown import FixState
from harness.cases.collect import Collected
from harness.commands import audit
from harness.commands.children import Ended
from harness.errors import HarnessError, KernelError
from harness.report.audit import AuditRecord
from harness.run.options import Options
from harness.verdict import CaseRecord, Verdict

FIELDS = ("title", "reporter", "thread", "affected", "fixed", "symptom", "trigger")
PATCH = "--- a/a.c\n+++ b/a.c\n@@ -3 +3 @@\n-\ta();\n+\tb();\n"
MUTATION = {"files": ["a.c"], "functions": ["f"], "kernels": ">=7.2", "patch": PATCH}
SOURCE = "void f(void)\n{\n\ta();\n}\n"
ONE = UpstreamFix(commit="0123456789ab", subject="vfio: Fix a")
TWO = UpstreamFix(subject="as in 7.4", code={"b.c": "g"})
HUNK = "@@ -1,4 +1,4 @@\n void f(void)\n {"
DEFAULT, LAZY = "intel-iommu-release", "lazy-release"


def bug(name: str, machine: str = "intel-iommu", **more: object) -> Bug:
    expects = {"verdict": "FAIL", "cases": [f"test_a::test_{name}"], "reason": "broken"}
    data = {"id": name, **dict.fromkeys(FIELDS, "-"), "date": "2026", "machine": machine, "expects": expects, **more}
    return Bug.model_validate_json(json.dumps(data))


def ended(*cases: tuple[str, Verdict]) -> Ended:
    records = [
        CaseRecord(id=f"test_a::test_{name}", area="a", title="t", verdict=verdict, reason="broken", duration_s=1)
        for name, verdict in cases
    ]
    return Ended(0, 1.0, run_record(*records))


def work(tmp_path: Path, fixes: Sequence[KnownFix]) -> audit._Work:
    cases = [Collected(f"test_a::test_{name}", f"tests/vm/test_a.py::test_{name}", ()) for name in ("x", "y", "z")]
    return audit._Work(fixes, cases, Options(kernel="~/linux"), tmp_path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "a.c").write_text(SOURCE)
    (tmp_path / "Makefile").write_text("VERSION = 7\nPATCHLEVEL = 2\nSUBLEVEL = 12\nEXTRAVERSION =\n")
    return tmp_path


def run(found: audit._Work, runs: dict[str, Ended]) -> None:
    for task in found.tasks():
        found.ended(task, runs[task.name])
    found.judge()


def test_the_cases_of_a_machine_run_together_and_each_bug_alone(source: Path) -> None:
    both = (bug("x", mutation=MUTATION), bug("y", mutation=MUTATION))
    fixes = [KnownFix(ONE, both), KnownFix(TWO, (bug("z", "lazy"),))]
    found = work(source, fixes)
    tasks = {task.name: task for task in found.tasks()}
    assert [Path(node).name for node in tasks[DEFAULT].cases] == ["test_a.py::test_x", "test_a.py::test_y"]
    assert tasks[LAZY].options == Options("lazy", "~/linux")
    run(found, {DEFAULT: ended(("x", Verdict.PASS), ("y", Verdict.FAIL)), LAZY: ended(("z", Verdict.PASS))})
    (proof,) = found.proofs("7.2.12", source)
    assert (proof.options.mutation, [Path(node).name for node in proof.cases]) == ("x", ["test_a.py::test_x"])
    found.proved(proof, ended(("x", Verdict.FAIL)))
    first, second = (found.record(fix, "") for fix in fixes)
    assert (first.state, first.pick) == ("missing", "0123456789ab")
    assert [each.state for each in first.bugs] == ["present", "missing"]
    assert (second.state, second.proof) == ("present", "catalogue"), "it has no mutation"


def test_a_bug_put_back_that_no_case_shows_leaves_the_fix_not_judged(source: Path) -> None:
    fix = KnownFix(ONE, (bug("x", mutation=MUTATION),))
    found = work(source, [fix])
    run(found, {DEFAULT: ended(("x", Verdict.PASS))})
    (proof,) = found.proofs("7.2.12", source)
    found.proved(proof, ended(("x", Verdict.PASS)))
    assert found.record(fix, "").state == "not judged"


def judged(tmp_path: Path, bug: Bug) -> tuple[audit._Work, KnownFix]:
    """An audit in which the case of the bug has passed."""
    fix = KnownFix(ONE, (bug,))
    found = work(tmp_path, [fix])
    run(found, {DEFAULT: ended(("x", Verdict.PASS))})
    return found, fix


def test_a_mutation_that_does_not_apply_judges_nothing(source: Path) -> None:
    """The kernel may have the bug already, and the case be blind to it there."""
    (source / "a.c").write_text("void f(void)\n{\n\tother();\n}\n")
    found, fix = judged(source, bug("x", mutation=MUTATION))
    assert list(found.proofs("7.2.12", source)) == []
    record = found.record(fix, "")
    assert record.state == "not judged"
    assert "cannot be put back" in record.reason


def test_a_mutation_is_tried_on_other_releases_as_a_patch(source: Path) -> None:
    found, _ = judged(source, bug("x", mutation=MUTATION))
    (proof,) = found.proofs("7.1", source)
    assert proof.options.mutation is None
    assert proof.options.series
    expected = PATCH.replace("@@ -3 +3 @@", HUNK) + " }\n"
    assert Path(proof.options.series).read_text() == f"x, put back\n\n{expected}"


def test_a_release_that_has_the_bug_without_the_fix_proves_its_case(source: Path) -> None:
    """A series on that release fixed it; the mutation is for later ones."""
    found, fix = judged(source, bug("x", mutation=MUTATION, kernels=">=7.0, <7.2"))
    assert list(found.proofs("7.1", source)) == []
    record = found.record(fix, "")
    assert (record.state, record.proof) == ("present", "catalogue")


def test_absent_code_makes_a_fix_not_applicable_unless_a_case_shows_the_bug(tmp_path: Path) -> None:
    fix = KnownFix(ONE, (bug("x"),))
    for seen, state in ((Verdict.SKIP, "not applicable"), (Verdict.FAIL, "missing")):
        found = work(tmp_path, [fix])
        run(found, {DEFAULT: ended(("x", seen))})
        assert found.record(fix, "b.c has no g").state == state


def test_a_run_that_ends_early_judges_nothing_and_is_an_error_if_it_is_ours(tmp_path: Path) -> None:
    fix = KnownFix(ONE, (bug("x"),))
    for error, failed in ((HarnessError("no QEMU"), ["intel-iommu-release: no QEMU"]), (KernelError("no build"), [])):
        found = work(tmp_path, [fix])
        run(found, {DEFAULT: Ended(3, 1.0, None, error)})
        record = found.record(fix, "")
        assert (record.state, found.failed) == ("not judged", failed)
        assert str(error) in record.reason


def test_a_fix_without_a_case_is_not_judged(tmp_path: Path) -> None:
    fix = KnownFix(ONE, why="it changes documentation")
    record = work(tmp_path, [fix]).record(fix, "")
    assert (record.state, record.reason, record.proof) == ("not judged", "it changes documentation", None)


def test_the_text_names_what_to_pick(tmp_path: Path) -> None:
    fixes = [KnownFix(ONE, (bug("x"),)), KnownFix(TWO, why="no case")]
    found = work(tmp_path, fixes)
    run(found, {DEFAULT: ended(("x", Verdict.FAIL))})
    record = AuditRecord(
        run_id="r",
        started="2026-11-20T20:00:00+00:00",
        duration_s=1,
        harness="0",
        kernel=verdict.KernelRecord(release="7.2.6", origin="debian:7.2.6", config_hash=""),
        summary=dict.fromkeys(FixState, 0) | {"missing": 1, "not judged": 1},
        failed=["lazy-release: no\x1b[31m QEMU"],
        fixes=[found.record(fix, "") for fix in fixes],
    )
    assert str(record).splitlines() == [
        "7.2.6, debian:7.2.6",
        "missing     0123456789ab vfio: Fix a",
        "            test_a::test_x is FAIL: broken",
        "not judged  as in 7.4",
        "            no case",
        "pick: 0123456789ab",
        "ERROR: lazy-release: no\\x1b[31m QEMU",
    ]
    assert record.tally() == "1 missing, 1 not judged"
