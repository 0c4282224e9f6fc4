# SPDX-License-Identifier: GPL-2.0-only
"""The verdict of a reproducer, as its machine's console has it."""

import pytest

from harness.reproducer.outcome import read
from harness.verdict import Verdict

HEAD = "[    1.1] KTAP version 1\n[    1.1] 1..1\n[    1.2] # device_reset(&device1) = 0\n"


@pytest.mark.parametrize(
    ("console", "verdict", "reason"),
    [
        ("[    2.0] # seen: it is fine\n[    2.0] ok 1 the-bug\n", Verdict.PASS, "it is fine"),
        ("[    2.0] ok 1 the-bug\n", Verdict.PASS, "ok 1 the-bug"),
        ("[    2.0] # seen: ENODEV\n[    2.0] not ok 1 the-bug\n", Verdict.FAIL, "ENODEV"),
        (
            "[    2.0] # seen in the kernel's log: WARNING: a\n[    2.0] not ok 1 b: the kernel complained\n",
            Verdict.SPLAT,
            "WARNING: a",
        ),
        ("[  300.0] not ok 1 the-bug: a call does not return\n", Verdict.HANG, "not ok 1"),
        ("[    2.0] ok 1 the-bug # SKIP only an observer outside the program sees it\n", Verdict.SKIP, "SKIP"),
        ("[    2.0] # seen: ENOENT\n[    2.0] Bail out! the-bug\n", Verdict.ERROR, "ENOENT"),
        ("[    2.0] Kernel panic - not syncing: Oops\n", Verdict.CRASH, "the guest panicked"),
    ],
)
def test_verdict(console: str, verdict: Verdict, reason: str) -> None:
    found = read(HEAD + console, ended="the guest panicked")
    assert found.verdict is verdict
    assert reason in found.reason


def test_a_program_that_never_ran_blames_nobody() -> None:
    """Without a line of the program, the kernel did not even start it."""
    assert read("[    0.1] Linux version 7.2\n", ended="the guest panicked").verdict is Verdict.ERROR


def test_only_the_lines_of_the_program_are_printed() -> None:
    """Each has the kernel's time, and thread with CONFIG_PRINTK_CALLER. Other text that looks alike has none."""
    console = "ok 1 a lie\n[    1.0] vfio-pci 0000:01:00.0: reset\n[    2.0][   T61] ok 1 the-bug\n"
    assert read(console, ended="").lines == ("ok 1 the-bug",)


@pytest.mark.parametrize(
    ("found", "verdict", "agrees"),
    [
        ("ok 1 b", Verdict.PASS, True),
        ("ok 1 b", Verdict.FAIL, False),
        ("not ok 1 b", Verdict.KNOWN, True),
        ("not ok 1 b", Verdict.PASS, False),
        ("not ok 1 b: the kernel complained", Verdict.FAIL, True),
        ("ok 1 b # SKIP it", Verdict.FAIL, False),
        ("Bail out! b", Verdict.FAIL, False),
    ],
)
def test_agreement_with_the_case(found: str, verdict: Verdict, agrees: bool) -> None:
    assert read(f"[    1.0] {found}\n", ended="").agrees_with(verdict) is agrees
