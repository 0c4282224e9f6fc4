# SPDX-License-Identifier: GPL-2.0-only
"""The script of the outer machine: what it mounts and runs, in this order, with names that a shell would misread."""

import re
import subprocess
from pathlib import Path

from harness.nested import job, recipe, shares
from harness.nested.shares import Share, outermost
from harness.paths import VM_CASES

ODD = Path("/home/a b/it's $HOME")
STUBS = """
uptime_s() { echo 100; }
share() { echo "share|$1|$2"; }
cache() { echo "cache|$1|$2"; }
run() { echo "run|$1|$2|$3|$4|$MINE"; }
ln() { :; }
"""


def test_the_script_says_what_to_mount_and_to_run() -> None:
    text = job.script(
        [Share("share0", ODD), Share("cache", Path("/c"), writable=True)],
        {"bin": "usr/bin"},
        {"MINE": "a 'b' $c"},
        [job.Run("required", ["python", ODD]), job.Run("rest", ["python", "x"])],
        900,
    )
    done = subprocess.run(["sh", "-euc", STUBS + text], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"share|share0|{ODD}",
        "cache|cache|/c",
        f"run|required|900|python|{ODD}|a 'b' $c",
        "run|rest|900|python|x|a 'b' $c",
    ]


def test_the_archive_has_the_script() -> None:
    packed = job.archive("echo\n")
    assert packed.startswith(b"070701")
    assert b"job\0" in packed
    assert b"echo\n" in packed
    assert b"TRAILER!!!" in packed


def test_a_directory_inside_another_is_no_share() -> None:
    given = [Path("/usr/local"), Path("/usr"), Path("/a/b"), Path("/usrx"), Path("/a/b")]
    assert sorted(outermost(given)) == [Path("/a/b"), Path("/usr"), Path("/usrx")]


def test_only_the_cache_takes_writes() -> None:
    found = shares.shares([])
    assert [share.tag for share in found if share.writable] == ["cache"]
    assert len({share.tag for share in found}) == len(found)


def test_the_named_cases_exist() -> None:
    test = recipe.load()
    for name in (*test.required, *test.short):
        file, _, case = name.partition("::")
        assert (VM_CASES / file).is_file(), name
        text = (VM_CASES / file).read_text()
        assert f"def {case.partition('[')[0]}" in text
        assert not re.search(r"^(pytestmark =|    )[^#]*pytest.mark.machine", text, re.MULTILINE), (
            "of other machines only"
        )
