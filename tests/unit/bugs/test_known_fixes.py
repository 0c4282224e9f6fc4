# SPDX-License-Identifier: GPL-2.0-only
"""The known fixes upstream: of the catalogue, and those that no case judges."""

from pathlib import Path

import pytest

from harness.bugs import load_bug, load_bugs
from harness.bugs.catalogue import UpstreamFix
from harness.bugs.known_fixes import known_fixes, unmerged_fixes
from harness.errors import UsageError

CARRIED = [
    "69dc538a4f5a",
    "80d9411c00e8",
    "faa37ff3bf18",
    "61ceaf236115",
    "e98137f0a874",
    "1a8a5227f229",
    "d97708701434",
    "951ebc18d181",
    "f2d70dbd3dce",
    "298ab7e6f163",
    "c64a647c84f3",
    "702809dabdec",
    "dba4254e216d",
    "5f3fc0ad9a41",
    "590d745680",
    "1a96f3a22f",
]
"""The fixes that distributions carry by hand (NV-Kernels pull requests 300 and 583 to 585)."""


def test_each_fix_that_distributions_carry_is_known() -> None:
    commits = [fix.fix.commit or "" for fix in known_fixes()]
    assert [carried for carried in CARRIED if sum(commit.startswith(carried) for commit in commits) != 1] == []


def test_a_fix_has_a_bug_that_cases_show_or_a_reason() -> None:
    assert [fix for fix in known_fixes() if bool(fix.bugs) == bool(fix.why)] == []
    assert [bug.id for fix in known_fixes() for bug in fix.bugs if bug.expects.verdict == "PASS"] == []


def test_a_fix_names_the_commit_to_pick_or_a_patch() -> None:
    by_bug = {bug.id: fix for fix in known_fixes() for bug in fix.bugs}
    assert by_bug["big-bar-32-bit"].pick == "b344ca94e8cc"
    assert by_bug["second-domain-as-memory"].pick == "vm-configs/bugs/second-domain-as-memory.fix.patch"


def test_bugs_of_one_commit_are_one_fix() -> None:
    fix = next(fix for fix in known_fixes() if fix.fix.commit == "1a8a5227f229")
    assert [bug.id for bug in fix.bugs] == ["revoke-does-not-wait", "revoke-does-not-wait-fences"]


def test_a_commit_that_two_entries_describe_differently_is_refused() -> None:
    one = load_bug("revoke-does-not-wait")
    other = UpstreamFix(commit="1a8a5227f229", subject="another")
    two = load_bug("revoke-does-not-wait-fences").model_copy(update={"fixed_by": (other,)})
    with pytest.raises(UsageError, match=r"revoke-does-not-wait-fences.yaml: fixed_by: .* 1a8a5227f229 differently"):
        known_fixes([one, two])


def test_a_commit_with_and_without_cases_is_refused() -> None:
    carried = UpstreamFix(commit="80d9411c00e8", subject="PCI/P2PDMA: Add missing struct p2pdma_provider documentation")
    with pytest.raises(
        UsageError, match=r"unjudged-fixes.yaml: 80d9411c00e8 is also fixed_by of kref-not-rearmed.yaml"
    ):
        known_fixes([load_bug("kref-not-rearmed").model_copy(update={"fixed_by": (carried,)})])


def test_the_catalogues_own_patches_are_the_unmerged_fixes() -> None:
    found = [bug.id for fix in unmerged_fixes() for bug in fix.bugs]
    assert "sgt-orig-nents-leak" in found
    assert "second-domain-as-memory" not in found, "7.3.4 has fixed it"
    assert set(found) <= {bug.id for bug in load_bugs() if bug.fix}


def test_code_that_a_source_lacks_is_named(tmp_path: Path) -> None:
    fix = UpstreamFix(subject="s", code={"a.c": "int f"})
    assert fix.lacking(tmp_path) == "a.c has no int f"
    (tmp_path / "a.c").write_text("int g(void);\n")
    assert fix.lacking(tmp_path) == "a.c has no int f"
    (tmp_path / "a.c").write_text("int f(void);\n")
    assert not fix.lacking(tmp_path)


def test_a_patch_of_a_private_catalogue_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bug = load_bug("second-domain-as-memory")
    monkeypatch.setenv("VFIO_HARNESS_BUGS", str(tmp_path))
    (fix,) = (fix for fix in known_fixes([bug]) if fix.bugs)
    assert fix.pick == f"{tmp_path}/second-domain-as-memory.fix.patch"
