# SPDX-License-Identifier: GPL-2.0-only
"""The record of a review: its figures, the line for the cover letter, the diff as text and as a page."""

import json

import click
import pytest

from harness.commands.review import Files, shown_files, text, with_mutants
from harness.commands.review_source import Reviewed
from harness.kernel.source.difference import FileDifference
from harness.report.outcomes import MutantOutcome
from harness.report.review import Counts, LineMutant, LineState, ReviewedLine, ReviewRecord, Survivor, render, to_json
from harness.verdict import KernelRecord

FILE = "drivers/x.c"
OLD, NEW = b"int f(int a)\n{\n\tg(a);\n}\n", b"int f(int a)\n{\n\t/* <b> */\n\th(a);\n\tk(a);\n\tl(a);\n}\n"
REVIEWED = Reviewed(None, ("x: do h, k and l",), [FileDifference(FILE, OLD, NEW)])


def line(number: int, code: str, state: LineState, **more: object) -> ReviewedLine:
    return ReviewedLine(file=FILE, line=number, text=f"\t{code}", state=state, **more)


LINES = [
    line(3, "/* <b> */", LineState.NO_CODE, reason="a comment"),
    line(4, "h(a);", LineState.REACHED, function="f", cases=["test_a::x on m", "test_b::y on m"]),
    line(5, "k(a);", LineState.NOT_REACHED, function="f"),
    line(6, "l(a);", LineState.UNREACHABLE, function="f", reason="impossible: it is so"),
]


def mutant(what: str, outcome: MutantOutcome, case: str | None = None) -> LineMutant:
    return LineMutant(id=what, file=FILE, line=4, what=what, outcome=outcome, case=case, machine="m")


MUTANTS = [
    mutant("h(a); -> { } (drop-call)", MutantOutcome.CAUGHT, "test_a::x"),
    mutant("a -> a + 1 (off-by-one)", MutantOutcome.SURVIVED),
    mutant("a -> (a)", MutantOutcome.EQUIVALENT),
    mutant("a -> !a", MutantOutcome.MASKED),
]


def record(*more: LineMutant) -> ReviewRecord:
    judged = [*MUTANTS, *more]
    lines = [with_mutants(each, judged) for each in LINES]
    counts = Counts.of(lines, judged)
    return ReviewRecord(
        changed=counts.changed,
        reached=counts.reached,
        mutants=counts.mutants,
        caught=counts.caught,
        survived=[Survivor(file=FILE, line=4, what=MUTANTS[1].what)],
        unreached=lines[2:],
        unreachable=counts.unreachable,
        no_code=counts.no_code,
        candidates=3,
        equivalent=1,
        masked=counts.masked,
        cover_letter=counts.cover_letter(),
        run_id="1",
        started="2026-11-29T00:00:00+00:00",
        duration_s=1.0,
        harness="0",
        kernel=KernelRecord(release="7.2.12", origin="debian:7.2.12", config_hash="0"),
        change=list(REVIEWED.patches),
        machines=["m"],
        verdicts={"PASS": 2},
        bad=["test_c::z on m: FAIL"],
        lines=lines,
        judged=judged,
    )


def files(found: ReviewRecord) -> Files:
    return shown_files(REVIEWED, found.lines)


def test_the_json_has_the_figures() -> None:
    found = json.loads(to_json(record()))
    assert {name: found[name] for name in ("changed", "reached", "mutants", "caught", "survived")} == {
        "changed": 3,
        "reached": 1,
        "mutants": 2,
        "caught": 1,
        "survived": [{"file": FILE, "line": 4, "what": "a -> a + 1 (off-by-one)"}],
    }
    assert [each["line"] for each in found["unreached"]] == [5, 6]
    assert found["schema"] == "vfio-harness/review/1"


def test_the_line_for_the_cover_letter() -> None:
    assert record().cover_letter == (
        "3 lines changed, 1 reached, 1 of 2 mutants caught. 1 more could not be judged: each case that reaches it "
        "fails without it, too. No machine can reach 1 line. 1 line without code."
    )
    assert Counts(1, 1, 0, 0, 0, 0, 0).cover_letter() == "1 line changed, 1 reached."
    assert Counts(41, 38, 0, 0, 29, 27, 0).cover_letter() == "41 lines changed, 38 reached, 27 of 29 mutants caught."


def test_the_diff_says_what_is_not_tested() -> None:
    found = record()
    lines = [click.unstyle(each) for each in text(found, files(found))]
    assert lines[0] == FILE
    assert "no code     +\t/* <b> */" in lines
    assert "2 cases     +\th(a);" in lines
    assert lines[lines.index("2 cases     +\th(a);") + 1].strip() == "not tested: a -> a + 1 (off-by-one)"
    assert "              not known: a -> !a: each case that reaches it fails without it, too" in lines
    assert lines[lines.index("not reached +\tk(a);") + 1].strip() == "not tested: no case reaches it"
    assert "unreachable +\tl(a);" in lines
    assert "            -\tg(a);" in lines
    assert lines[-3] == "on the changed kernel: test_c::z on m: FAIL"
    assert lines[-1] == found.cover_letter


def test_the_page_is_the_diff_and_loads_nothing() -> None:
    found = record()
    page = render(found, files(found))
    assert '<span class="warn" title="test_a::x on m, test_b::y on m; caught: ' in page
    assert '<span class="bad" title="">+\tk(a);</span>' in page
    assert "not tested: a -&gt; a + 1 (off-by-one)" in page
    assert "/* &lt;b&gt; */" in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize(("outcome", "code"), [(MutantOutcome.SURVIVED, 0), (MutantOutcome.ERROR, 3)])
def test_what_a_review_finds_is_no_failure(outcome: MutantOutcome, code: int) -> None:
    assert record(mutant("b", outcome)).exit_code == code
