# SPDX-License-Identifier: GPL-2.0-only
"""The patterns for reasons, in vm-configs/bugs and known-issues.yaml, match sentences that their cases state.

Without this test a reworded sentence in tests/vm would leave a pattern that no run can match.
"""

import ast
import itertools
import re
from functools import cache
from pathlib import Path

import pytest

from harness import paths
from harness.bugs import load_bugs
from harness.run.known_issues import catalogue
from harness.verdict import Verdict

COMMON = [
    paths.TOP / "harness" / "run" / "fixtures.py",
    paths.TOP / "harness" / "cases" / "program_verdict.py",
    *sorted((paths.TOP / "harness" / "guest").rglob("*.py")),
]
"""Texts that the reason of any case may contain: the fixtures' sentences, those about programs of others, and the names
of the guest's kernel calls."""
HOLE = "\0"
"""A value in an f-string, or a wildcard of a pattern."""
SPLAT = ("WARNING in ", "DMA-API: ", ": DMA-API: ")
"""How the titles of splats begin. The kernel words them, so no case states them."""
UNRELATED = "broken: an unrelated sentence holds; seen: nothing"

PATTERNS = [
    *(
        pytest.param(bug.expects.reason.pattern, bug.expects.cases, id=bug.id)
        for bug in load_bugs()
        if bug.expects.reason.pattern and bug.expects.verdict is Verdict.FAIL  # the kernel words the title of a splat
    ),
    *(
        pytest.param(issue.symptom.reason.pattern, issue.cases, id=f"known-{issue.id}")
        for issue in catalogue()
        if issue.symptom.verdicts != [Verdict.CRASH]  # the kernel words a panic
    ),
]


@pytest.mark.parametrize(("pattern", "cases"), PATTERNS)
def test_each_alternative_is_a_sentence_of_the_cases(pattern: str, cases: list[str]) -> None:
    files = [paths.VM_CASES / f"{name}.py" for name in {case.partition("::")[0] for case in cases}]
    sentences = [text for file in [*files, *COMMON] for text in texts_in(file)]
    for alternative in alternatives(pattern):
        if not alternative.startswith(SPLAT):
            assert any(states(sentence, alternative) for sentence in sentences), alternative


@pytest.mark.parametrize(("pattern", "cases"), PATTERNS)
def test_no_pattern_matches_an_unrelated_reason(pattern: str, cases: list[str]) -> None:
    assert not re.search(pattern, UNRELATED)
    assert not re.search(pattern, "")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("while (a|b) lasts; seen: .*c", ["while a lasts", "while b lasts"]),
        ("low-power(-wakeup)? lasts", ["low-power-wakeup lasts", "low-power lasts"]),
        ("a sentence|REG_MR gave EINVAL", ["a sentence", "REG_MR"]),
        ("bind .* to vfio-pci gave ENODEV", [" to vfio-pci"]),
        (
            "an unmap (frees a list; seen: [0-9]+ bytes|gives back [^;]*)",
            ["an unmap frees a list", "an unmap gives back "],
        ),
        ("broken: frees a list; seen: (?P<bytes>[0-9]+) bytes|broken: frees all", ["frees a list", "frees all"]),
        ("the kernel refused: (A|B) gave ENODEV", ["A", "B"]),
        ("gave ENODEV", []),
    ],
)
def test_alternatives_of_a_pattern(pattern: str, expected: list[str]) -> None:
    assert alternatives(pattern) == expected


@pytest.mark.parametrize(
    ("sentence", "text", "stated"),
    [
        ("the mapping is dead for good", "mapping is dead", True),
        ("the mapping is dead", "the mapping is dead for good", False),
        (f"before {HOLE} the mapping is live", "before flr the mapping", True),
        (f"before {HOLE} the mapping is live", "before flr the mapping is dead", False),
        (f"{HOLE} lasts", "a whole sentence in the hole lasts", False),
    ],
)
def test_what_a_sentence_states(sentence: str, text: str, stated: bool) -> None:
    assert states(sentence, text) is stated


@cache
def texts_in(file: Path) -> list[str]:
    """Return the strings of a Python file, with a hole for each value of an f-string."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
        elif isinstance(node, ast.JoinedStr):
            found.append("".join(str(part.value) if isinstance(part, ast.Constant) else HOLE for part in node.values))
    return found


def alternatives(pattern: str) -> list[str]:
    """Return what each alternative of a pattern requires a case to say: its longest text without a wildcard.

    What was seen is left out, and so is the errno of a refused call, since the kernel decides both.
    """
    pattern = re.sub(r"broken: |the kernel refused: ", "", pattern)  # from must() and judge()
    pattern = re.sub(r"\(\?P<\w+>\[0-9\]\+\)", HOLE, pattern)
    parts = re.split(r"\(([^()]*)\)(\??)", re.sub(r"\.\*|\[[^]]*\][+*]", HOLE, pattern))
    choices = [[parts[0]]]
    for group, optional, rest in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        choices += [[*group.split("|"), *([""] if optional else [])], [rest]]
    found = ("".join(choice) for choice in itertools.product(*choices))
    said = (re.split(r"; seen: | ?gave E", each)[0] for text in found for each in text.split("|"))
    return [longest for each in said if (longest := max(each.split(HOLE), key=len))]


def states(sentence: str, text: str) -> bool:
    """Return whether ``text`` is part of a sentence, at least 30 % of it outside of the sentence's holes."""
    reached = dict.fromkeys(range(len(sentence)), 0)  # place in the sentence: characters outside of holes
    for character in text:
        after: dict[int, int] = {}
        for place, fixed in reached.items():
            if sentence[place : place + 1] == HOLE:
                moves = [(place, fixed), (place + 1, fixed)]
            elif sentence[place : place + 1] == character:
                moves = [(place + 1, fixed + 1)]
            else:
                continue
            for following, count in moves:
                after[following] = max(count, after.get(following, 0))
        reached = after
    return max(reached.values(), default=0) >= 0.3 * len(text)
