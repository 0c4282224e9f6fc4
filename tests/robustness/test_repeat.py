# SPDX-License-Identifier: GPL-2.0-only
"""Repeat cases: each repetition has a seed of its own, and the record has the rate of each case."""

import json

from commandline import CASES, CommandLine

CASE = CASES / "sometimes.py"


def test_each_repetition_has_its_own_seed_and_counts(harness: CommandLine) -> None:
    outcome = harness("run", CASE, "--seed", "20", "--repeat", "10", "--jobs", "2")
    assert outcome.code == 1, outcome.output
    cases = {case["id"]: case for case in json.loads(outcome.reports()[-1].read_text())["cases"]}
    bad, good = cases["sometimes::test_sometimes"], cases["sometimes::test_always"]
    assert (bad["verdict"], bad["seed"], bad["rate"]["bad"], bad["rate"]["runs"]) == ("FAIL", 20, 3, 10)
    assert (good["verdict"], good["rate"]["bad"], good["rate"]["runs"]) == ("PASS", 0, 10)
    assert "3 of 10 failed: 30 %, between 6.7 % and 65 % at 95 % confidence" in outcome.output
    assert outcome.output.count("broken: the seed is a good one") == 1, "each reason is printed once"


def test_one_case_on_one_machine_and_until_it_fails(harness: CommandLine) -> None:
    again = ("--repeat", "10", "--until-fail", "--jobs", "1")
    outcome = harness("run", f"{CASE}::test_sometimes", "--seed", "16", *again)
    assert outcome.code == 1, outcome.output
    (case,) = json.loads(outcome.reports()[-1].read_text())["cases"]
    assert (case["seed"], case["rate"]["bad"], case["rate"]["runs"]) == (20, 1, 5), "16 to 19 are good"


def test_until_fail_needs_repetitions(harness: CommandLine) -> None:
    outcome = harness("run", CASE, "--until-fail")
    assert outcome.code == 2
    assert "add --repeat N" in outcome.output
