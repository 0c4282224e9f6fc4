# SPDX-License-Identifier: GPL-2.0-only
"""The page of a night: what comes first, what is one group, what is bounded, and that a guest's text is harmless."""

import html
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.nightly.cells import NightVerdicts
from harness.nightly.mail import write_mail
from harness.nightly.page import FILE, write_page
from harness.nightly.record import CaseChange, Why
from harness.verdict import CaseRecord, Evidence, Verdict

HOSTILE = "<script>alert(1)</script>\x1b[2J\x00\x85\u202e" + "A" * 3_000_000


def a_case(name: str, verdict: Verdict = Verdict.PASS, reason: str = "", text: str = "Device.export()") -> CaseRecord:
    seen = [Evidence(t=0.5, source="guest", text=text), Evidence(t=1, source="console", text=text)]
    return CaseRecord(
        id=name, area="a", title=f"The rule of {name}.", verdict=verdict, reason=reason, duration_s=1, evidence=seen
    )


def a_change(cell: str, case: str, kind: str, before: str, after: str, **more: Any) -> CaseChange:
    return CaseChange.model_validate(
        {"cell": cell, "case": case, "kind": kind, "before": before, "after": after, **more}
    )


def page(directory: Path, **more: Any) -> str:
    return write_page(NightVerdicts.read(directory), **more).read_text(encoding="utf-8")


def words(text: str) -> str:
    """Return what a reader sees of a page."""
    body = re.sub(r"(?s)^.*<body>|<title>.*?</title>|<[^>]*>", " ", text)
    return " ".join(html.unescape(body).split())


def in_order(text: str, parts: Sequence[str]) -> bool:
    places = [text.find(part) for part in parts]
    return -1 not in places and places == sorted(places)


@pytest.mark.parametrize(
    ("kind", "headline"),
    [
        ("broken", "1 broken"),
        ("broken-with-commit", "2 broken"),
        ("splat", "1 broken"),
        ("missing", "2 missing"),
        ("fixed", "1 fixed"),
        ("several", "3 broken , 1 missing , 1 changed , 2 new , 1 fixed"),
        ("quiet", "1 new"),
    ],
)
def test_the_headline_counts_what_has_changed(write_night: Callable[[str], Path], kind: str, headline: str) -> None:
    directory = write_night(kind)
    assert f"Night 2026-11-29 {headline} " in words(page(directory))
    assert [path.name for path in directory.iterdir() if path.is_file()].count(FILE) == 1


def test_a_night_without_changes_says_so(nights: Any, make_run: Any) -> None:
    nights.cell("a", make_run([a_case("f::a")]), cases=["f::a"])
    text = words(page(nights.write()))
    assert "Nothing has changed. 1 PASS in 1 cell" in text
    assert "Problems" not in text
    assert "MISS:" not in text


def test_a_first_night_is_not_said_to_be_unchanged(nights: Any, make_run: Any) -> None:
    nights.cell("a", make_run([a_case("f::a", Verdict.FAIL, "no")]), cases=["f::a"])
    text = words(page(nights.write(), last_night=""))
    assert "The first night of its plan: there is none to compare it with. 1 FAIL in 1 cell" in text
    assert not re.search("changed|no change|since the last night|as in the last", text)
    assert " Problems " in text


def test_what_an_earlier_night_has_bisected_is_one_problem_with_its_commit(nights: Any, make_run: Any) -> None:
    now = [a_case(f"f::{name}", Verdict.FAIL, f"{name} broke") for name in ("a", "b", "c")]
    nights.cell("x", make_run(now), cases=["f::a", "f::b", "f::c"])
    commit = "0123456789abcdef0123456789abcdef01234567 vfio/pci: Break it"
    blamed = {("x", "f::a"): commit, ("x", "f::b"): commit}
    text = words(page(nights.write(), last_night="2026-11-28", blamed=blamed))
    assert f"Still bad, as in the last night FAIL : 2 cases first bad commit: {commit}" in text
    assert text.count("first bad commit") == 1
    assert "c broke" in text


def test_the_parts_are_in_the_order_of_their_weight(nights: Any, make_run: Any) -> None:
    now = [a_case("f::new", Verdict.FAIL, "it broke"), a_case("f::old", Verdict.FAIL, "as ever"), a_case("f::good")]
    nights.cell("a", make_run(now), cases=["f::new", "f::old", "f::good", "f::lost"], expected_s=0.0)
    nights.cells[0] = nights.cells[0].model_copy(update={"expected_s": 1.0})
    runs = [run.model_copy(update={"seconds": 100.0}) for run in nights.results[0].runs]
    nights.results[0] = nights.results[0].model_copy(update={"runs": runs})
    changes = [
        a_change("a", "f::good", "fixed", "FAIL", "PASS"),
        a_change("a", "f::new", "broken", "PASS", "FAIL", reason="it broke", rate="3 of 10"),
    ]
    text = words(page(nights.write(*changes), overdue=["leak: review by 2026-01-01"], slower=["f::good: 9 s, was 1 s"]))
    assert in_order(
        text,
        [
            "1 broken",
            "tree kernel since the last night verdicts linus 7.3.0-rc4 1 broken , 1 fixed",
            "Since the last night",
            "it broke",
            "Fixed: 1",
            "Other problems",
            "as ever",
            "MISS: not judged",
            "f::lost",
            "Flaky",
            "3 of 10 runs failed",
            "Slower",
            "a: 100 s, expected 1 s",
            "f::good: 9 s, was 1 s",
            "Overdue known issues",
            "leak: review by 2026-01-01",
            "Cases by kernel and machine",
            "The night and its cells",
        ],
    )
    assert text.count("it broke") == 1, "what has changed is not listed as a problem again"


def test_equal_news_in_several_cells_are_one_group_with_a_link_to_each(write_night: Callable[[str], Path]) -> None:
    text = page(write_night("broken-with-commit"))
    assert words(text).count("PASS → FAIL in 3 of 10 runs") == 1
    assert "first bad commit: 0123456789abcdef0123456789abcdef01234567 vfio/pci" in words(text)
    for machine in ("intel-iommu", "switch"):
        assert f'<a href="cells/linus-{machine}/1/report.html#c0">linus-{machine}</a>' in text
    assert text.count('<svg class="tl"') == 1


def test_a_bug_is_present_in_some_kernels_and_absent_in_others(nights: Any, make_run: Any) -> None:
    known = a_case("f::k", Verdict.KNOWN).model_copy(update={"known_issue": "leak"})
    old, new = [a_case("f::a", Verdict.FAIL, "no"), known], [a_case("f::a"), a_case("f::k")]
    for tree, cases in (("7.2.6", old), ("7.2.12", new), ("7.3", [a_case("f::a", Verdict.SKIP), known])):
        nights.cell(tree, make_run(cases), cases=["f::a", "f::k"], tree=tree)
    text = words(page(nights.write()))
    assert "f::a in 7.2.6 ; present in 7.2.6, absent in 7.2.12" in text
    assert "leak : present in 7.2.6, 7.3, absent in 7.2.12" in text


def test_a_bug_of_a_debug_kernel_is_not_absent_where_only_a_release_kernel_ran(nights: Any, make_run: Any) -> None:
    bad, good = [a_case("f::a", Verdict.SPLAT, "KASAN")], [a_case("f::a")]
    for tree, flavour, cases in (("7.2", "debug", bad), ("7.2", "release", good), ("7.3", "release", good)):
        nights.cell(f"{tree}-{flavour}", make_run(cases), cases=["f::a"], tree=tree, flavour=flavour)
    assert "absent" not in words(page(nights.write()))


def test_each_tree_has_its_line_with_the_kernel_and_its_news(nights: Any, make_run: Any) -> None:
    for tree, verdict in (("7.2", Verdict.PASS), ("7.3", Verdict.FAIL)):
        nights.cell(tree, make_run([a_case("f::a", verdict, "no")]), cases=["f::a"], tree=tree)
    nights.cell("7.4", cases=["f::a"], tree="7.4")
    text = words(page(nights.write(a_change("7.3", "f::a", "broken", "PASS", "FAIL", reason="no"))))
    rows = ["7.2 7.3.0-rc4 no change 1 PASS", "7.3 7.3.0-rc4 1 broken 1 FAIL", "7.4 none has run no change 1 MISS"]
    assert f"tree kernel since the last night verdicts {' '.join(rows)}" in text
    assert "PASS → FAIL on 7.3: The rule of f::a." in text


def test_a_problem_names_the_command_that_runs_it_again(write_night: Callable[[str], Path]) -> None:
    assert (
        words(page(write_night("splat"))).count("again: make vm-test KERNEL=/src/linux@master FLAVOUR=debug K=test_unm")
        == 1
    )


@pytest.mark.parametrize("kind", ["error-only", "quiet"])
def test_what_is_no_fault_of_a_kernel_has_no_command(write_night: Callable[[str], Path], kind: str) -> None:
    assert "again:" not in words(page(write_night(kind)))


def test_the_draft_of_a_mail_is_linked_if_there_is_one(write_night: Callable[[str], Path]) -> None:
    directory = write_night("broken")
    assert "mail.txt" not in page(directory)
    write_mail(NightVerdicts.read(directory))
    assert '<a href="mail.txt">' in page(directory)


def test_a_case_that_is_flaky_in_several_cells_is_one_line(write_night: Callable[[str], Path]) -> None:
    text = words(page(write_night("broken-with-commit")))
    assert "test_sysfs_reset_revokes[iommufd+nvme]: 3 of 10 runs failed in linus-intel-iommu, linus-switch" in text


def test_equal_splats_of_several_cases_are_one_group(nights: Any, make_run: Any) -> None:
    warning = "WARNING: a.c:{} at f+0x1/0x2\nCall Trace:\n <TASK>\n g+0x1/0x2\n h+0x1/0x2\n </TASK>"
    cases = [a_case(f"f::{n}", Verdict.SPLAT, f"WARNING in f at a.c:{n}", warning.format(n)) for n in range(5)]
    nights.cell("a", make_run(cases), cases=[case.id for case in cases])
    text = words(page(nights.write()))
    assert text.count("SPLAT : The rule of") == 1
    assert "5 cases in 1 cell a: f::0 , f::1 , f::2" in text


def test_a_cell_that_has_not_run_is_one_line_and_no_row(nights: Any, make_run: Any) -> None:
    names = [f"f::{number}" for number in range(300)]
    nights.cell("a", make_run([a_case(name) for name in names]), cases=names)
    nights.cell("b", cases=names)
    changes = [a_change("b", name, "missing", "PASS", "MISS", reason="the cell has not run") for name in names]
    text = words(page(nights.write(*changes)))
    assert "300 missing" in text
    assert "MISS 300 cases of b : the cell has not run" in text
    assert "MISS: not judged" not in text
    assert text.count("f::0,") == 1, "they are not listed again as MISS"
    assert "Each case has the same verdict in all cells" in text


def test_a_case_that_was_deleted_is_missing_and_not_fixed(write_night: Callable[[str], Path]) -> None:
    text = words(page(write_night("missing")))
    assert "2 missing" in text
    assert "1 fixed" not in text
    assert "Fixed:" not in text
    assert "the run has ended without judging it" in text


def test_an_error_that_a_fresh_machine_has_judged_is_flaky(nights: Any, make_run: Any) -> None:
    again = make_run([a_case("f::a")], Why.AGAIN)
    nights.cell("a", make_run([a_case("f::a", Verdict.ERROR, "no")]), again, cases=["f::a"])
    text = page(nights.write())
    assert "ERROR once , judged on a fresh machine: f::a" in words(text)
    assert "1 PASS in 1 cell" in words(text)


def test_the_matrix_links_a_bad_verdict_to_its_case(nights: Any, make_run: Any) -> None:
    cases = [a_case("f::a"), a_case("f::b", Verdict.HANG, "stuck")]
    nights.cell("one", make_run(cases), cases=["f::a", "f::b"])
    nights.cell("two", make_run([a_case("f::a"), a_case("f::b")]), cases=["f::a", "f::b"], machine="switch")
    text = page(nights.write())
    row = next(line for line in text.splitlines() if line.startswith("<tr><td>f::b</td>"))
    link = '<a href="cells/one/1/report.html#c1" title="HANG">H</a>'
    assert row == f'<tr><td>f::b</td><td class="bad">{link}</td><td>·</td></tr>'
    assert "1 case with the same good verdict" in words(text)


def test_a_night_that_was_killed_says_so(nights: Any, make_run: Any) -> None:
    nights.cell("a", cases=["f::a"])
    nights.write()
    record = nights.path / "nightly.json"
    record.write_text(record.read_text().replace('"2026-11-29T03:30:00+00:00"', "null"))
    assert "Nothing has changed so far. 1 MISS in 1 cell, since 00:30 UTC This night has not ended" in words(
        page(nights.path)
    )


def test_what_a_guest_prints_is_harmless_and_bounded(nights: Any, make_run: Any) -> None:
    name = HOSTILE[:200]
    bad = a_case(name, Verdict.FAIL, HOSTILE, HOSTILE).model_copy(update={"title": HOSTILE})
    nights.cell(
        "a", make_run([bad]), make_run(None, error=HOSTILE), cases=[name, *(f"{n}{HOSTILE[:100]}" for n in "ab")]
    )
    change = a_change(
        "a", name, "broken", "PASS", "FAIL", reason=HOSTILE, rate=HOSTILE, commit=HOSTILE, last_good=HOSTILE
    )
    text = page(nights.write(change), overdue=[HOSTILE], slower=[HOSTILE])
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert all(char.isprintable() or char in "\n\t" for char in text)
    assert len(text) < 100_000


def test_a_record_that_is_no_text_is_a_miss(nights: Any, make_run: Any) -> None:
    nights.cell("a", make_run([a_case("f::a")]), cases=["f::a"])
    nights.write()
    (nights.path / "cells/a/1/report.json").write_bytes(b"\xff\xfe{" * 1000)
    assert "1 MISS" in words(page(nights.path))


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.FAIL])
def test_a_page_of_many_cells_stays_below_two_megabytes(nights: Any, make_run: Any, verdict: Verdict) -> None:
    names = [f"test_{n}::test_with_a_name_as_long_as_those_of_real_cases[iommufd+nvme-{n}]" for n in range(310)]
    for cell in range(18):
        reasons = (f"<broken>: {'<&>' * 100} in cell {cell} number {'x' * n}" for n in range(310))
        cases = [a_case(name, verdict, reason) for name, reason in zip(names, reasons, strict=True)]
        nights.cell(f"cell-{cell}", make_run(cases), cases=names)
    changes = []
    if verdict is Verdict.FAIL:
        changes = [a_change("cell-0", name, "broken", "PASS", "FAIL", reason="<&>" * 200 + name) for name in names]
    text = page(nights.write(*changes))
    assert len(text.encode()) < 2_000_000
    assert ("more" in words(text)) is (verdict is Verdict.FAIL)
