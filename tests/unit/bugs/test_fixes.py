# SPDX-License-Identifier: GPL-2.0-only
"""``--fixed``: the fixes of the bugs that a kernel has, applied one after the other."""

from pathlib import Path

import pytest

from harness.bugs import Fixes, fixable, load_bugs
from harness.errors import KernelError
from harness.progress import silent

RELEASE = "VERSION = 7\nPATCHLEVEL = 2\nSUBLEVEL = 12\nEXTRAVERSION =\n"


def test_only_bugs_of_the_release_that_have_a_fix_are_fixed() -> None:
    live = fixable("7.2.12")
    assert {bug.id for bug in live} == {bug.id for bug in load_bugs() if bug.fix and bug.is_in("7.2.12")}
    assert live
    assert not fixable("6.1.192")


def test_a_fix_that_does_not_apply_names_itself(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(RELEASE)
    with pytest.raises(KernelError, match=r"does not apply: drivers/\S+: no such file in this kernel"):
        Fixes(silent).files(tmp_path)


def test_a_kernel_without_such_bugs_stays_the_same(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(RELEASE.replace("7\n", "6\n", 1))
    fixes = Fixes(silent)
    assert fixes.files(tmp_path) == {}
    assert fixes.patches == ()
