# SPDX-License-Identifier: GPL-2.0-only
"""What `vfio-harness reproducer check` demands of a reproducer of the catalogue."""

import pytest

from harness.commands.reproducer_check import Checked
from harness.reproducer.outcome import Outcome
from harness.verdict import Verdict

V = Verdict


def ended(verdict: Verdict | None) -> Outcome | None:
    return None if verdict is None else Outcome(verdict, "seen", ())


@pytest.mark.parametrize(
    ("with_it", "control", "code", "complaint"),
    [
        (V.FAIL, V.PASS, 0, ""),
        (V.SPLAT, V.PASS, 0, ""),
        (V.FAIL, None, 0, ""),
        (V.PASS, V.PASS, 1, "it does not show the bug"),
        (V.FAIL, V.FAIL, 1, "it is FAIL without the bug"),
        (V.FAIL, V.SKIP, 1, "it is SKIP without the bug"),
        (V.ERROR, V.PASS, 3, "it does not show the bug"),
        (V.FAIL, V.ERROR, 3, "it is ERROR without the bug"),
    ],
)
def test_both_kernels_are_judged(with_it: Verdict, control: Verdict | None, code: int, complaint: str) -> None:
    first = ended(with_it)
    assert first
    found = Checked("the-bug", first, ended(control), "none: no fix is known")
    assert found.exit_code == code
    assert found.complaint.startswith(complaint)
    assert bool(found.complaint) == bool(complaint)
    assert "the-bug" in str(found)
