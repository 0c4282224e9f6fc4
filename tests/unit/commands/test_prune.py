# SPDX-License-Identifier: GPL-2.0-only
"""``prune``: it removes what is old and nothing else, prints it with its size, and leaves alone what is in use."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from filelock import FileLock
from made_nights import Nights, cell

from harness.cli import cli
from harness.commands.nightly_run import LOCK
from harness.host.held import hold, size_of
from harness.kernel.build.tree import lock_build, modules_dir_of
from harness.kernel.cache import cache_path
from harness.kernel.obtain import owner_of
from harness.progress import phase, silent
from harness.report import RunDirectory

DAYS = 24 * 3600


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VFIO_HARNESS_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("VFIO_HARNESS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "results" / "nightly").mkdir(parents=True)
    return tmp_path / "results"


def prune(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["prune", *arguments], catch_exceptions=False)


def run_of(results: Path, days: int, verdict: str | None = "PASS", suffix: str = "abcdefgh") -> Path:
    """Make a run that began so many days ago. ``verdict`` None: it was killed before it wrote its record."""
    path = results / f"{datetime.now(UTC) - timedelta(days=days):%Y%m%d-%H%M%S}-{suffix}"
    (path / "machine-1").mkdir(parents=True)
    (path / "machine-1" / "trace").write_bytes(b"x" * 100_000)
    if verdict:
        (path / "report.json").write_text(f'{{"cases": [{{"verdict": "PASS"}}, {{"verdict": "{verdict}"}}]}}')
    return path


def night_of(results: Path, days: int, verdict: str) -> Path:
    name = f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%d}"
    return Nights(results / "nightly").write(name, cell({"test_f::test_c": verdict}))[1]


def test_old_runs_and_nights_are_removed_and_young_ones_stay(results: Path) -> None:
    old = [run_of(results, 31), run_of(results, 40, "FAIL"), run_of(results, 50, None), night_of(results, 32, "PASS")]
    young = [run_of(results, 29), night_of(results, 2, "PASS")]
    sizes = {path: size_of(path) for path in old}
    lines = prune("--keep", "30d").stdout.splitlines()
    assert sorted(lines[:-1]) == sorted(f"removed {path}: {sizes[path]:,} bytes" for path in old)
    assert lines[-1] == f"removed 4 directories and files, {sum(sizes.values()):,} bytes"
    assert sizes[old[0]] > 100_000
    assert [path.exists() for path in (*old, *young)] == [False] * 4 + [True] * 2


def test_dry_run_names_the_same_and_removes_nothing(results: Path) -> None:
    old = [run_of(results, 31), night_of(results, 32, "FAIL")]
    said = prune("--dry-run").stdout
    assert all(path.exists() for path in old)
    assert said.replace("would remove", "removed") == prune().stdout
    assert not any(path.exists() for path in old)


@pytest.mark.parametrize("verdict", ["FAIL", "SPLAT", "HANG", "CRASH"])
def test_failures_are_kept(results: Path, verdict: str) -> None:
    kept = [run_of(results, 31, verdict), night_of(results, 32, verdict)]
    assert prune("--keep-failures").stdout.splitlines()[:-1] == [f"kept {path}: has a failure" for path in kept]
    assert all(path.exists() for path in kept)


@pytest.mark.parametrize("verdict", ["PASS", "KNOWN", "FIXED", "SKIP", "ERROR", None])
def test_what_blames_no_kernel_is_no_failure(results: Path, verdict: str | None) -> None:
    run = run_of(results, 31, verdict)
    prune("--keep-failures")
    assert not run.exists()


def test_a_record_that_cannot_be_read_may_be_a_failure(results: Path) -> None:
    run = run_of(results, 31)
    (run / "report.json").write_text("{")
    prune("--keep-failures")
    assert run.exists()


def test_failures_of_kernels_with_bugs_put_in_are_none(results: Path) -> None:
    run = run_of(results, 31, None)
    run_of(run, 31, "FAIL")
    (run / "mutants.json").write_text("{}")
    prune("--keep-failures")
    assert not run.exists()


def test_the_latest_run_and_night_stay(results: Path) -> None:
    run, night = run_of(results, 31), night_of(results, 32, "PASS")
    (results / "latest").symlink_to(run.name)
    (results / "nightly" / "latest").symlink_to(night.name)
    assert prune().stdout.splitlines()[:-1] == [f"kept {run}: the latest", f"kept {night}: the latest"]
    assert run.exists()
    assert night.exists()


def test_other_files_are_not_touched(results: Path) -> None:
    names = ["bench.json", "mine", "20200101-000000", "20209999-000000-abcdefgh", "nightly/notes", "nightly/2020-13-45"]
    for name in names:
        (results / name).mkdir(parents=True)
    (results / "20200101-000000-elsewhere").symlink_to("mine")
    assert prune("--keep", "0h").stdout == "removed 0 directories and files, 0 bytes\n"
    assert all((results / name).exists() for name in names)


HOLDER = """
import sys
from pathlib import Path
from harness.host.held import hold
class User: pass
user = User()
hold(Path(sys.argv[1]), user)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_elsewhere(path: Path) -> Iterator[None]:
    """Hold a directory in another process."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    try:
        yield
    finally:
        holder.communicate(timeout=30)


def cached(results: Path, file: str, name: str, days: int) -> Path:
    """Make an entry of the cache, with a file, that a run used last so many days ago."""
    path = results.parent / "cache" / file.format(name)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 10_000)
    os.utime(path.parent, (time.time() - days * DAYS,) * 2)
    return path.parent


@pytest.mark.parametrize(
    "file",
    ["qemu/debian/{0}_{0}+ds-1_trixie/qemu-system-x86_64", "image/{}/root.erofs", "nested/{}/initrd"],
    ids=["QEMU", "image of the guest", "image of the outer machine"],
)
def test_what_no_run_has_used_goes(results: Path, file: str) -> None:
    versions = {"10.0.2": 31, "10.0.13": 31, "11.1.3": 1}
    old, held, young = (cached(results, file, name, days) for name, days in versions.items())
    (results.parent / "cache" / file.partition("/")[0] / "lock").touch()
    with held_elsewhere(held):
        dry = prune("--dry-run").stdout.splitlines()
        said = prune().stdout.splitlines()
    assert f"kept {held}: in use" in said
    assert [line for line in said if line.startswith(f"removed {old}: ")]
    assert [line.replace("would remove", "removed") for line in dry] == said
    assert [path.exists() for path in (old, held, young)] == [False, True, True]


@pytest.mark.parametrize("inner", ["", "machine-1"])
def test_a_run_that_another_process_uses_stays(results: Path, inner: str) -> None:
    run = run_of(results, 31)
    with held_elsewhere(run / inner):
        assert prune().stdout.splitlines()[0] == f"kept {run}: in use"
        assert prune("--dry-run").stdout.splitlines()[0] == f"kept {run}: in use"
        assert run.exists()
    prune()
    assert not run.exists()


def test_a_night_that_runs_stays(results: Path) -> None:
    """Between two of its cells nothing else shows that it runs."""
    night = night_of(results, 32, "PASS")
    with FileLock(night / LOCK):
        assert prune().stdout.splitlines()[0] == f"kept {night}: in use"
    prune()
    assert not night.exists()


def test_a_run_holds_its_own_directory(results: Path) -> None:
    directory = RunDirectory(results)
    old = results / "20200101-000000-abcdefgh"
    directory.path.rename(old)
    prune()
    assert old.exists()
    del directory
    prune()
    assert not old.exists()


def entry(kind: str, name: str, days: float, *files: str) -> Path:
    """Make an entry of the kernel cache that was used so many days ago."""
    path = cache_path(kind, name)
    for file in (*files, "file"):
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).write_text("x" * 10_000)
    age(path, days)
    return path


def age(path: Path, days: float) -> None:
    for found in [*path.rglob("*"), path]:
        os.utime(found, (time.time() - days * DAYS,) * 2)


def cache(results: Path, days: float) -> dict[str, Path]:
    """Make a tree with its build, its modules, a workspace and bootable kernels, all used so many days ago."""
    build = entry("build", "linux-1-release-abc", days)
    workspace = entry("changed", "linux-1-release-abc", days, "build/.config", "source/Makefile")
    owners = {"ready": build, "ready of the workspace": workspace / "build"}
    return {
        "build": build,
        "modules": entry("external", modules_dir_of(build).name, days),
        "workspace": workspace,
        "modules of the workspace": entry("external", modules_dir_of(workspace / "build").name, days),
        "source": entry("source", "linux-1", days),
        "farm": entry("farm", "linux-1", days),
        "checkout": entry("checkout", "linux-1", days),
        "bisect": entry("bisect", "linux-1-abc", days),
        **{name: entry("ready", f"{owner_of(owner)}-{name[-5:]}", days) for name, owner in owners.items()},
    }


def left(made: dict[str, Path]) -> set[str]:
    return {name for name, path in made.items() if path.exists()}


def test_an_old_cache_is_removed_and_a_young_one_stays(results: Path) -> None:
    made = cache(results, days=31)
    series = cache_path("series", "a.mbx")
    series.write_text("patch")
    age(series, 31)
    assert "removed 9 directories and files" in prune().stdout
    assert left(made) == set()
    assert not series.exists()
    made = cache(results, days=29)
    assert prune().stdout == "removed 0 directories and files, 0 bytes\n"
    assert left(made) == made.keys()


def test_dry_run_of_the_cache_names_the_same(results: Path) -> None:
    made = cache(results, days=31)
    said = prune("--dry-run").stdout
    assert left(made) == made.keys()
    assert said.replace("would remove", "removed") == prune().stdout


@pytest.mark.parametrize("used", ["ready", "build"])
def test_what_was_used_lately_keeps_what_it_needs(results: Path, used: str) -> None:
    """A bootable kernel that was booted lately keeps its object tree, and that keeps its source."""
    made = cache(results, days=31)
    age(made[used], 1)
    prune()
    kept = {"build", "modules", "source", "farm", "checkout"}
    assert left(made) == kept | {used}


@pytest.mark.parametrize("held", ["ready", "ready of the workspace"])
def test_a_kernel_that_a_run_boots_keeps_its_object_tree(results: Path, held: str) -> None:
    made = cache(results, days=31)
    with held_elsewhere(made[held]):
        said = prune().stdout
    tree = {"ready": {"build", "modules"}, "ready of the workspace": {"workspace", "modules of the workspace"}}[held]
    assert left(made) == tree | {held, "source", "farm", "checkout"}
    assert f"kept {made[held]}: in use" in said


def test_a_build_that_runs_is_not_removed(results: Path) -> None:
    made = cache(results, days=31)
    with phase(silent, "a test") as step, lock_build(made["build"], step):
        prune()
    assert left(made) == {"build", "modules", "source", "farm", "checkout"}


def test_a_checkout_that_a_run_uses_stays(results: Path) -> None:
    made = {"free": entry("checkout", "linux-1", 31), "used": entry("checkout", "linux-1.2", 31)}
    with held_elsewhere(made["used"]):
        assert f"kept {made['used']}: in use" in prune().stdout
    assert left(made) == {"used"}


def test_what_was_used_within_the_hour_stays_even_with_nothing_to_keep(results: Path) -> None:
    made = cache(results, days=0.5 / 24)
    prune("--keep", "0h")
    assert left(made) == made.keys()


def test_indexes_locks_and_unknown_directories_stay(results: Path) -> None:
    made = {name: entry(name, "x", 99) for name in ("apt", "git", "locks", "something-new")}
    prune()
    assert left(made) == made.keys()


@pytest.mark.parametrize("wrong", ["30", "d", "1.5d", "30 d", "-1d", "30m", ""])
def test_a_malformed_age_is_refused(results: Path, wrong: str) -> None:
    result = CliRunner().invoke(cli, ["prune", f"--keep={wrong}"])
    assert result.exit_code == 2
    assert "12h, 30d or 8w" in result.output


def test_hold_ends_with_its_user(tmp_path: Path) -> None:
    class User:
        pass

    user = User()
    hold(tmp_path, user)
    handles = len(list(Path("/proc/self/fd").iterdir()))
    del user
    assert len(list(Path("/proc/self/fd").iterdir())) == handles - 1
