# SPDX-License-Identifier: GPL-2.0-only
"""The run record in all its forms: complete, safe with hostile text, equal after a round trip, safe from other runs."""

import json
import resource
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_records import run_record

from harness.errors import HarnessError, UsageError
from harness.escape import printable
from harness.report import RunDirectory, html, junit, ktap, load, repeat_command, summarise, to_json
from harness.report.record import write_report
from harness.verdict import CaseRecord, Evidence, HostRecord, KernelRecord, NoLongerSeen, RunRecord, Verdict

HOSTILE = "<script>alert(1)</script> # ]]> & \x1b[31m\x00\x85\u202e\ud800 [/red] 'quoted'"

KERNEL = KernelRecord(release="7.2.12", origin="debian:7.2.12", config_hash="c0ffee", features={"dmabuf": True})
HOST = HostRecord(qemu="7.2.22", accel="tcg", accel_reason="KVM opens but does not boot", cpu="2 x EPYC")


def case(verdict: Verdict = Verdict.PASS, name: str = "test_rings[iommufd+edu]", **more: object) -> CaseRecord:
    values = {"area": "doorbell", "title": "rings the doorbell", "importer": "iommufd+edu", "duration_s": 0.41}
    return CaseRecord.model_validate({"id": f"tests/vm/test_a.py::{name}", "verdict": verdict, **values, **more})


def run(*cases: CaseRecord) -> RunRecord:
    return run_record(*cases, run_id="20261120-200000-abc", duration_s=12.5, harness="0.1.0", host=HOST, kernel=KERNEL)


EVERY = run(*(case(verdict, f"test_{verdict.lower()}", reason=f"because of {verdict}") for verdict in Verdict))
EVIL = run(
    case(
        Verdict.FAIL,
        HOSTILE,
        area=HOSTILE,
        title=HOSTILE,
        importer=HOSTILE,
        trigger=HOSTILE,
        reason=HOSTILE,
        evidence=[Evidence(t=0.1, source="console", text=HOSTILE)],
    )
)


def test_schema_is_the_documented_one() -> None:
    top = json.loads(to_json(EVERY))
    assert " ".join(top) == (
        "schema run_id started duration_s harness host kernel machine summary no_longer_seen phases shard cases"
    )
    assert " ".join(top["host"]) == "qemu accel accel_reason cpu"
    assert " ".join(top["kernel"]) == "release origin config_hash patches features git build series"
    assert " ".join(top["summary"]) == "PASS FAIL SPLAT HANG CRASH KNOWN FIXED SKIP ERROR"
    assert " ".join(top["cases"][0]) == (
        "id area title importer trigger verdict reason started duration_s known_issue seed program ran_in recording "
        "rate evidence"
    )


def test_summary_counts_all_verdicts() -> None:
    assert summarise([case(), case(), case(Verdict.HANG)]) == {str(v): 0 for v in Verdict} | {"PASS": 2, "HANG": 1}


_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
_evidence = st.builds(
    Evidence, t=st.floats(0, 1e6), source=st.sampled_from(["host", "qmp", "trace", "console", "guest"]), text=_text
)
_cases = st.builds(
    CaseRecord,
    id=_text,
    area=_text,
    title=_text,
    importer=st.none() | _text,
    trigger=st.none() | _text,
    verdict=st.sampled_from(Verdict),
    reason=_text,
    duration_s=st.floats(0, 1e6),
    known_issue=st.none() | _text,
    evidence=st.lists(_evidence, max_size=3),
)


@settings(max_examples=60)
@given(st.lists(_cases, max_size=4))
def test_every_record_round_trips_and_renders(cases: list[CaseRecord]) -> None:
    record = run(*cases)
    assert RunRecord.model_validate_json(to_json(record)) == record
    ET.fromstring(junit.render(record))
    assert all(char.isprintable() or char in "\n\t" for char in ktap.render(record))
    html.render(record, {}, Path("/nowhere"))


@pytest.mark.parametrize(
    "render", [junit.render, ktap.render, lambda record: html.render(record, {}, Path("/nowhere"))]
)
def test_hostile_text_is_escaped(render: object) -> None:
    text = render(EVIL)  # type: ignore[operator]
    assert "\\x1b[31m\\x00\\x85\\u202e\\ud800" in text
    assert all(char.isprintable() or char in "\n\t" for char in text)


def test_html_links_to_the_files_of_the_machine() -> None:
    page = html.render(run(case(Verdict.FAIL, ran_in="machine-2")), {}, Path("/nowhere"))
    assert '<a href="machine-2/console.log">' in page
    assert "<a " not in html.render(run(case()), {}, Path("/nowhere"))


def test_html_counts_the_verdicts_of_each_area() -> None:
    page = html.render(run(case(), case(), case(Verdict.FAIL, area="revoke")), {}, Path("/nowhere"))
    assert '<h2>doorbell <span class="counts"><span class="good">2 PASS</span></span></h2>' in page
    assert '<h2>revoke <span class="counts"><span class="bad">1 FAIL</span></span></h2>' in page


def test_html_lists_the_known_issues_that_a_change_no_longer_shows() -> None:
    fixed = case(Verdict.FIXED, known_issue="leak")
    record = run(fixed).model_copy(update={"no_longer_seen": [NoLongerSeen(issue="leak", case=fixed.id)]})
    line = f"changed: known issue leak is no longer seen in case {fixed.id} (FIXED)"
    assert line in html.render(record, {}, Path("/nowhere"))
    assert "changed:" not in html.render(run(fixed), {}, Path("/nowhere"))


def test_html_has_no_markup_from_the_guest() -> None:
    page = html.render(EVIL, {}, Path("/nowhere"))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page.replace("http-equiv", "")


def test_junit_results() -> None:
    root = ET.fromstring(junit.render(EVERY))
    results = {
        entry.get("name", "").split("test_")[-1]: [child.tag for child in entry] for entry in root.iter("testcase")
    }
    assert results == {
        "pass": [],
        "fail": ["failure"],
        "splat": ["failure"],
        "hang": ["failure"],
        "crash": ["failure"],
        "known": ["skipped"],
        "fixed": ["system-out"],
        "skip": ["skipped"],
        "error": ["error"],
    }
    assert (root.get("failures"), root.get("errors"), root.get("tests")) == ("4", "1", "9")
    messages = [child.get("message") for child in root.iter("failure")]
    assert "HANG: because of HANG" in messages


def test_ktap() -> None:
    record = run(
        case(),
        case(Verdict.SKIP, "test_b", reason="no CMB"),
        case(Verdict.FAIL, "test_c", area="revoke", reason="old mapping # live"),
    )
    assert ktap.render(record) == (
        "KTAP version 1\n1..2\n"
        "  KTAP version 1\n  1..2\n"
        "  ok 1 tests/vm/test_a.py::test_rings[iommufd+edu]\n"
        "  ok 2 tests/vm/test_a.py::test_b # SKIP no CMB\n"
        "ok 1 doorbell\n"
        "  KTAP version 1\n  1..1\n"
        "  not ok 1 tests/vm/test_a.py::test_c # FAIL: old mapping  live\n"
        "not ok 2 revoke\n"
    )


def test_repeat_command() -> None:
    assert repeat_command(case(), {}) == "make vm-test K='test_rings[iommufd+edu]'"
    assert repeat_command(case(name="test_x"), {"KERNEL": "/a tree"}) == "make vm-test KERNEL='/a tree' K=test_x"


@given(st.text())
def test_printable(text: str) -> None:
    safe = printable(text)
    assert all(char.isprintable() or char in "\n\t" for char in safe)
    assert len(printable(text, 10)) <= 10


def test_run_directory_has_every_form(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "results")
    directory.write(EVERY, {})
    assert {path.name for path in directory.path.iterdir()} == {
        "report.json",
        "report.html",
        "report.ktap",
        "junit.xml",
    }
    assert load(tmp_path / "results" / "latest") == EVERY
    assert (tmp_path / "results" / "latest").readlink() == Path(directory.run_id)


def test_parallel_runs_share_a_results_directory(tmp_path: Path) -> None:
    def one(_: int) -> str:
        directory = RunDirectory(tmp_path)
        directory.write(EVERY, {})
        return directory.run_id

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(one, range(16)))
    assert len(set(ids)) == 16
    assert str((tmp_path / "latest").readlink()) in ids
    assert {path.name for path in tmp_path.iterdir()} == {*ids, "latest"}


def test_directory_in_place_of_the_symlink_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    (tmp_path / "latest" / "precious").touch()
    with pytest.raises(HarnessError, match="latest: Is a directory"):
        RunDirectory(tmp_path).write(EVERY, {})
    assert (tmp_path / "latest" / "precious").exists()


def test_unwritable_results_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HarnessError, match=r"file: .*") as caught:
        RunDirectory(tmp_path / "file")
    assert caught.value.hint == "set VFIO_HARNESS_RESULTS"


def test_failed_write_leaves_only_the_old_file(tmp_path: Path) -> None:
    write_report(tmp_path / "report.json", "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(HarnessError, match=r"report\.json: File too large"):
            write_report(tmp_path / "report.json", "new" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    assert (tmp_path / "report.json").read_text() == "old"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "report.json: invalid JSON"),
        ('{"schema": 1}', "schema"),
        ("{}", "schema: this field is missing; the file is damaged"),
        (to_json(EVERY).replace('"PASS",', '"FINE",'), "verdict"),
        (to_json(EVERY).replace("report/1", "report/2"), "the schema is 'vfio-harness/report/2', but only"),
        ('{"schema": "vfio-harness/compare/1"}', "the schema is 'vfio-harness/compare/1', but only"),
        (to_json(EVERY).replace('"area"', '"section"', 1), r"cases\.0\."),
        (to_json(EVERY).replace("{", '{"more": 1,', 1), "more: unknown field, perhaps of a newer vfio-harness"),
    ],
)
def test_bad_record_is_refused_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "report.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=says) as caught:
        load(file)
    assert str(file) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_missing_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load(tmp_path / "report.json")


@pytest.mark.parametrize("run", ["latest", "20260101-a", "cells/a/1", "2026-01-01/cells/a/1"])
def test_a_directory_of_runs_names_one(tmp_path: Path, run: str) -> None:
    """The directory of a night, of a cell or of results is easily taken for that of a run."""
    (tmp_path / run).mkdir(parents=True)
    (tmp_path / run / "report.json").write_text(to_json(EVERY))
    with pytest.raises(UsageError, match="No such file") as caught:
        load(tmp_path)
    assert caught.value.hint == f"name a run directory, such as {tmp_path / run}"
