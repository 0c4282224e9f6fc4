# SPDX-License-Identifier: GPL-2.0-only
"""Bisect a history with a bug and a commit that does not build: it finds the bug, and leaves the repository untouched.

Compare a kernel with and without a series that fixes one bug and adds another: it reports what differs.
"""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from commandline import GONE_S, CommandLine

from harness.bugs import Mutation, load_bug
from harness.kernel import Kernel
from harness.kernel.cache import cache_path
from harness.paths import VM_CONFIGS

FILE = "drivers/vfio/pci/vfio_pci_dmabuf.c"
BUG = load_bug("region-index-ignored")
CASE = "test_cmb_read and iommufd+edu"
ALWAYS = re.compile(
    r"(?:.*/)?(?:Kconfig|Makefile|Kbuild)[^/]*"
    r"|(?:arch/x86|certs|include|kernel|lib|scripts|tools/(?:arch/x86|build|include|lib|objtool|scripts)|usr)/.*"
)
"""Files that a build reads although no ``.cmd`` file names them: a fifth of the source's files, a tenth of its size."""


@dataclass
class Repository:
    """A repository with objects and one branch."""

    top: Path
    """Its directory."""
    commits: dict[str, str] = field(default_factory=dict)
    """The hash of each commit, by its subject."""

    def git(self, *args: str, stdin: bytes = b"") -> str:
        env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        settings = [
            "-c",
            "user.name=A",
            "-c",
            "user.email=a@example.org",
            "-c",
            "core.compression=0",
            "-c",
            "gc.auto=0",
        ]
        done = subprocess.run(
            ["git", *settings, *args], cwd=self.top, env=env, input=stdin, check=True, capture_output=True
        )
        return done.stdout.decode().strip()

    def commit(self, subject: str, text: bytes | None = None) -> None:
        """Commit the index on top of the branch. ``text`` is the new content of FILE, if given."""
        if text is not None:
            blob = self.git("hash-object", "-w", "--stdin", stdin=text)
            self.git("update-index", "--cacheinfo", f"100644,{blob},{FILE}")
        self.git("commit", "--quiet", "-m", subject)
        self.commits[subject] = self.git("rev-parse", "HEAD")

    def state(self) -> dict[str, tuple[int, int]]:
        """Return the size and date of each of its files, objects included."""
        files = (path for path in self.top.rglob("*") if path.is_file())
        return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def history(default_kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """Return a repository of the default kernel in seven commits: only the files that its build reads."""
    source, build = default_kernel.source_dir, default_kernel.build_dir
    assert source
    named = re.compile(re.escape(bytes(source)) + rb"/([\w./+@,-]+)")
    read = {
        os.path.normpath(name.decode()) for cmd in build.rglob(".*.cmd") for name in named.findall(cmd.read_bytes())
    }
    kept = [
        name
        for path in source.rglob("*")
        if not path.is_dir() and ((name := str(path.relative_to(source))) in read or ALWAYS.fullmatch(name))
    ]
    made = Repository(tmp_path_factory.mktemp("history") / "linux-history")
    made.top.mkdir()
    made.git("init", "--quiet", "--initial-branch=main")
    made.git(f"--work-tree={source}", "update-index", "--add", "-z", "--stdin", stdin="\0".join(kept).encode())
    text = (source / FILE).read_bytes()
    broken = Mutation.of(BUG).files(source)[FILE]
    assert broken
    made.commit("base")
    made.commit("a comment", text + b"/* 1 */\n")
    made.commit("another comment", text + b"/* 2 */\n")
    made.commit("does not build", text + b"#error\n")  # the middle: the first that git-bisect tries
    made.commit("builds again", text)
    made.commit("the bug", broken)
    made.commit("a comment on it", broken + b"/* 1 */\n")
    yield made
    for part in ("bisect", "build", "external"):
        for entry in cache_path(part, ".").glob("linux-history-*"):
            shutil.rmtree(entry)


def test_the_bug_is_found(harness: CommandLine, history: Repository) -> None:
    before = history.state()
    outcome = harness("bisect", history.commits["base"], "main", "--tree", history.top, "-k", CASE)
    assert outcome.code == 0, outcome.output
    commit = history.commits["the bug"]
    assert f"first bad commit: {commit[:12]} (the bug)\n" in outcome.output
    assert (
        "  test_cmb::test_cmb_read[iommufd+edu]: FAIL\n      broken: an importer reads what is in the BAR"
        in outcome.output
    )
    assert f"  git bisect skip {history.commits['does not build']}\n" in outcome.output
    assert history.state() == before


def test_good_end_that_is_bad(harness: CommandLine, history: Repository) -> None:
    outcome = harness("bisect", "main~1", "main", "--tree", history.top, "-k", CASE)
    assert outcome.code == 1, outcome.output
    assert "not bisected: main~1 should be good, and is bad: 1 FAIL" in outcome.output


def test_an_end_that_does_not_build(harness: CommandLine, history: Repository) -> None:
    outcome = harness("bisect", history.commits["does not build"], "main", "--tree", history.top, "-k", CASE)
    assert outcome.code == 1, outcome.output
    assert "cannot be judged: " in outcome.output
    assert f"{FILE}:" in outcome.output
    assert "#error" in outcome.output


@pytest.mark.parametrize("tree", ["", "."])
def test_no_such_commit_and_no_repository(tree: str, harness: CommandLine, history: Repository, tmp_path: Path) -> None:
    outcome = harness("bisect", "v1", "main", "--tree", history.top if tree else tmp_path, "-k", CASE)
    assert outcome.code == 2, outcome.output
    assert "error: " in outcome.output


def test_interrupted(harness: CommandLine, history: Repository) -> None:
    """Interrupted while git-bisect runs a case: every process ends in time, and the repository is untouched."""
    before = history.state()
    for number in (signal.SIGINT, signal.SIGKILL):
        args = ["bisect", history.commits["base"], "main", "--tree", str(history.top), "-k", CASE]
        with harness.start(*args) as running:
            running.wait_until("git bisect run", lambda: list(harness.results.glob("*/output.txt")))
            running.wait_for_program("qemu-system")
            running.process.send_signal(number)
            assert running.seconds_until_gone() <= GONE_S
        assert history.state() == before
        if number == signal.SIGINT:
            assert running.process.returncode == 130
            harness.assert_nothing_left()
        harness.clear_disk()


def test_failure_of_the_harness_marks_no_commit(harness: CommandLine, tmp_path: Path) -> None:
    """A fault of the kernel gives 125, which skips the commit. A fault of the harness stops git-bisect."""
    series = tmp_path / "fix.patch"
    series.write_text(f"--- a/{FILE}\n+++ b/{FILE}\n@@ -1 +1 @@\n-none such\n+another\n")
    assert harness("run", "--bisect", "--series", series, "-k", CASE).code == 125
    assert harness("run", "--series", series, "-k", CASE).code == 1
    for args in (["--no-such-option"], ["--machine", "nowhere"], ["-k", "no_such_case"], ["--series", "nowhere"]):
        outcome = harness("run", "--bisect", *args)
        assert outcome.code > 127, outcome.output


def test_base_vs_series(harness: CommandLine, default_kernel: Kernel, tmp_path: Path) -> None:
    """One patch fixes a known issue, the other breaks a case. The report names both, and nothing else."""
    series = tmp_path / "series"
    series.mkdir()
    shutil.copy(VM_CONFIGS / "bugs" / "revoked-after-wakeup.fix.patch", series / "0001.patch")
    source = default_kernel.source_dir
    assert source
    for side, text in (("a", (source / FILE).read_bytes()), ("b", Mutation.of(BUG).files(source)[FILE])):
        assert text
        (tmp_path / side / FILE).parent.mkdir(parents=True)
        (tmp_path / side / FILE).write_bytes(text)
    diff = subprocess.run(
        ["diff", "-u", f"a/{FILE}", f"b/{FILE}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    (series / "0002.patch").write_text(diff.stdout)
    cases = f"test_waking_up_unrevokes or test_no_doorbell and iommufd+edu or {CASE}"
    outcome = harness("run", "--base-vs-series", "--series", series, "-k", cases)
    assert outcome.code == 1, outcome.output
    (report,) = harness.results.glob("*/compare.json")
    found = json.loads(report.read_text())
    assert {(d["id"], d["change"], d["before"], d["after"]) for d in found["differences"]} == {
        ("test_cmb::test_cmb_read[iommufd+edu]", "broken", "PASS", "FAIL"),
        ("test_lifecycle::test_waking_up_unrevokes[iommufd+nvme]", "fixed", "KNOWN", "FIXED"),
    }
    assert found["still"] == {"PASS": 1}
