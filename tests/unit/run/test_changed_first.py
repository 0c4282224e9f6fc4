# SPDX-License-Identifier: GPL-2.0-only
"""On a changed kernel, the cases that reach the changed functions come first."""

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from harness.bugs import load_bugs
from harness.bugs.related import about, in_files
from harness.kernel import Kernel
from harness.kernel.build import tree
from harness.run.changed import Changed, changed
from harness.run.options import Options
from harness.run.order import order
from harness.run.reach_map import CaseReach, ReachMap, load_map, path_of, series_of

FILE = "drivers/vfio/pci/vfio_pci_dmabuf.c"
MOVE = f"{FILE}:vfio_pci_dma_buf_move"
IDS = ["test_a::one[1]", "test_a::one[2]", "test_b::two", "test_c::three"]
TEXT = "int move(int a)\n{\n\treturn a;\n}\n\nint other(int a)\n{\n\treturn a;\n}\n"


def change(*functions: str) -> Changed:
    return Changed("the series", frozenset({FILE}), frozenset(functions))


def reach_map(**seconds: float) -> ReachMap:
    """A map in which cases of IDS reach the function, by position."""
    found = ReachMap()
    cases = {IDS[int(name[1:])]: (took, [MOVE]) for name, took in seconds.items()}
    found.merge("m", {**{case: (1.0, [f"{FILE}:other"]) for case in IDS}, **cases})
    return found


def test_the_cheapest_of_each_test_that_reaches_the_function_comes_first() -> None:
    positions, why = order(IDS, change(MOVE), reach_map(_0=3.0, _1=0.5, _3=2.0), "m", "7.2.12")
    assert [IDS[at] for at in positions] == ["test_a::one[2]", "test_c::three", "test_a::one[1]", "test_b::two"]
    assert why == "order    3 of 4 cases first: they reach vfio_pci_dma_buf_move, which the series changes"


def test_a_case_that_shows_a_bug_in_the_function_comes_before() -> None:
    bug = about({"vfio_pci_dma_buf_move"}, load_bugs())[0]
    shows = bug.expects.cases[0].replace("*", "x")
    known = ReachMap()
    known.merge("m", {"test_a::cheap": (0.1, [MOVE]), shows: (9.0, [MOVE])})
    assert order(["test_a::cheap", shows], change(MOVE), known, "m", "7.2.12")[0] == [1, 0]


def test_only_the_file_is_known() -> None:
    positions, _ = order(IDS, change(f"{FILE}:"), reach_map(_2=1.0), "m", "7.2.12")
    assert sorted(positions) == [0, 1, 2, 3]


def test_a_machine_without_a_run_takes_the_cases_of_others() -> None:
    assert reach_map(_2=1.0).reaching([MOVE], "another") == {"test_b::two": 1.0}


def test_without_a_map_the_catalogue_and_the_files_decide() -> None:
    bug = in_files({FILE}, load_bugs())[0]
    ids = [*IDS, bug.expects.cases[0].replace("*", "x")]
    positions, why = order(ids, change(MOVE), None, "m", "7.2.12")
    assert positions == [4, 0, 1, 2, 3]
    assert "no coverage map of 7.2" in why


def test_nothing_moves_if_nothing_is_known() -> None:
    unknown = Changed("the series", frozenset({"fs/x.c"}), frozenset({"fs/x.c:f"}))
    assert order(IDS, unknown, None, "m", "7.2.12") == ([0, 1, 2, 3], "")


def test_a_map_keeps_what_other_runs_have_written() -> None:
    found = reach_map(_0=1.0)
    found.merge("m", {IDS[1]: (2.0, [MOVE])})
    found.merge("n", {IDS[2]: (2.0, ["x.c:f"])})
    assert found.reaching([MOVE], "m").keys() == {IDS[0], IDS[1]}
    assert found.machines["m"][IDS[3]] == CaseReach(seconds=1.0, functions=[found.functions.index(f"{FILE}:other")])


def test_a_map_of_another_version_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFIO_HARNESS_CACHE", str(tmp_path))
    assert load_map("7.2.12") is None
    path_of("7.2.12").parent.mkdir()
    path_of("7.2.12").write_text(ReachMap(schema="another").model_dump_json(by_alias=True))
    assert load_map("7.2.12") is None
    path_of("7.2.12").write_text(reach_map(_0=1.0).model_dump_json(by_alias=True))
    assert load_map("7.2.0-rc3") == reach_map(_0=1.0)


@pytest.mark.parametrize(("release", "series"), [("7.2.12", "7.2"), ("7.3.0-rc4-custom+", "7.3"), ("6.1", "6.1")])
def test_the_series_of_a_release(release: str, series: str) -> None:
    assert series_of(release) == series


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source tree with one driver, in git."""
    top = tmp_path / "linux"
    top.mkdir()
    (top / "x.c").write_text(TEXT)
    for name in ("Kconfig", "Kbuild"):
        (top / name).touch()
    git(top, "init", "-q")
    commit(top)
    return top


def git(top: Path, *words: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=top, check=True)


def commit(top: Path) -> None:
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "one")


def kernel(build_dir: Path, base_dir: Path | None = None) -> Kernel:
    return cast(Kernel, SimpleNamespace(build_dir=build_dir, base_dir=base_dir))


def edit(top: Path, function: str) -> None:
    text = (top / "x.c").read_text()
    (top / "x.c").write_text(text.replace(f"int {function}(int a)\n{{\n", f"int {function}(int a)\n{{\n\ta++;\n"))


def test_what_is_not_committed_has_changed_else_the_last_commit(source: Path, tmp_path: Path) -> None:
    options = Options(kernel=str(source))
    assert changed(options, kernel(tmp_path)) is None, "the first commit"
    edit(source, "move")
    found = changed(options, kernel(tmp_path))
    assert found
    assert (found.what, found.functions) == ("what is not committed", {"x.c:move"})
    commit(source)
    found = changed(options, kernel(tmp_path))
    assert found
    assert (found.what, found.functions) == ("the last commit", {"x.c:move"})
    edit(source, "other")
    found = changed(options, kernel(tmp_path))
    assert found
    assert found.functions == {"x.c:other"}


def test_a_series_changes_its_functions(source: Path, tmp_path: Path) -> None:
    edit(source, "other")
    diff = subprocess.run(["git", "diff"], cwd=source, check=True, capture_output=True).stdout
    git(source, "checkout", "-q", "x.c")
    (tmp_path / "x.patch").write_bytes(b"Subject: one\n\n" + diff)
    found = changed(Options(kernel="git:x@y", series=str(tmp_path / "x.patch")), kernel(tmp_path, source))
    assert found
    assert (found.what, found.functions) == ("the series", {"x.c:other"})


def test_without_git_the_files_of_the_last_build_have_changed(source: Path, tmp_path: Path) -> None:
    (source / ".git").rename(tmp_path / "git")
    assert changed(Options(kernel=str(source)), kernel(tmp_path)) is None
    (tmp_path / tree._CHANGED).write_text("x.c\nMakefile")
    found = changed(Options(kernel=str(source)), kernel(tmp_path))
    assert found
    assert (found.what, found.functions) == ("what was edited", {"x.c:"})


def test_a_kernel_without_edits_has_not_changed(tmp_path: Path) -> None:
    assert changed(Options(), kernel(tmp_path)) is None
    assert changed(Options(kernel="debian:7.3"), kernel(tmp_path)) is None
    assert changed(Options(mutation="iova-leak"), kernel(tmp_path, tmp_path)) is None


def test_a_tree_that_git_cannot_read_is_no_error(source: Path, tmp_path: Path) -> None:
    for path in (source / ".git").iterdir():
        path.rename(tmp_path / path.name)
    assert changed(Options(kernel=str(source)), kernel(tmp_path)) is None
