# SPDX-License-Identifier: GPL-2.0-only
"""Wrong usage of ``vfio-harness review``, and the machines on which a line gets another chance."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from harness.commands.review_lines import LineCounters
from harness.commands.review_runs import CoverageRuns
from harness.commands.review_source import Reviewed, reviewed
from harness.errors import KernelError, UsageError
from harness.kernel import Kernel
from harness.progress import silent
from harness.report.review import LineState, ReviewedLine
from harness.run.options import Options

PATCH = "Subject: one\n\n--- a/x.c\n+++ b/x.c\n@@ -1 +1,2 @@\n int a;\n+int b;\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "linux"
    top.mkdir()
    for name in ("Kconfig", "Kbuild"):
        (top / name).touch()
    (top / "x.c").write_text("int a;\n")
    return top


def series(tmp_path: Path, patch: str = PATCH) -> str:
    path = tmp_path / "one.patch"
    path.write_text(patch)
    return str(path)


def test_a_series_or_a_commit_is_needed(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="either a series or --since"):
        reviewed(Options(kernel=str(tree)), None, silent)
    with pytest.raises(UsageError, match="either a series or --since"):
        reviewed(Options(kernel=str(tree), series=series(tmp_path)), "main", silent)


def test_a_build_directory_has_no_source_to_change(tmp_path: Path) -> None:
    (tmp_path / ".config").touch()
    with pytest.raises(UsageError, match="a review needs a source"):
        reviewed(Options(kernel=str(tmp_path), series=series(tmp_path)), None, silent)


def test_since_needs_git_and_no_fixes(tree: Path) -> None:
    with pytest.raises(UsageError, match="no git work tree"):
        reviewed(Options(kernel=str(tree)), "main", silent)
    with pytest.raises(UsageError, match="--fixed"):
        reviewed(Options(kernel=str(tree), fixed=True), "main", silent)


def test_a_series_that_does_not_apply_is_its_own_fault(tree: Path, tmp_path: Path) -> None:
    other = PATCH.replace("@@ -1 +1,2 @@\n int a;", "@@ -1,2 +1,2 @@\n int a;\n-int z;")
    with pytest.raises(KernelError, match="does not apply"):
        reviewed(Options(kernel=str(tree), series=series(tmp_path, other)), None, silent)


def test_the_lines_of_a_series_and_of_a_tree(tree: Path, tmp_path: Path) -> None:
    found = reviewed(Options(kernel=str(tree), series=series(tmp_path)), None, silent)
    assert (found.changed, found.patches) == ({"x.c": {2}}, ("one",))
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *words], cwd=tree, check=True)
    (tree / "x.c").write_text("int c;\nint a;\n")
    found = reviewed(Options(kernel=str(tree)), "main", silent)
    assert (found.changed, found.patches, found.change) == ({"x.c": {1}}, ("since main",), None)


def unreached(function: str, reason: str = "") -> ReviewedLine:
    return ReviewedLine(file="x.c", line=1, text="", function=function, state=LineState.NOT_REACHED, reason=reason)


def machines(*lines: ReviewedLine) -> dict[str, Sequence[str]]:
    kernel = cast(Kernel, type("Built", (), {"build_dir": Path("/nowhere")}))
    runs = CoverageRuns(Options(), kernel, LineCounters(Reviewed(None, (), [])), Path("/nowhere"), silent)
    return runs._machines(lines)


def test_another_machine_runs_if_a_reason_or_a_bug_names_it() -> None:
    assert machines(unreached("f", "elsewhere: multifunction: one function is not bound")) == {"multifunction": ()}
    (sriov,) = machines(unreached("vfio_pci_core_sriov_configure")).items()
    assert sriov[0] == "sriov"
    assert sriov[1]
    assert all("test_sriov.py::test_enabling_vfs_unrevokes" in node for node in sriov[1])
    assert machines(unreached("f")) == {}
    assert machines() == {}
