# SPDX-License-Identifier: GPL-2.0-only
"""Merged runs: one report in all its forms, and what no shard has judged is visible in each."""

import itertools
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner
from run_records import KERNEL, run_record

from harness.cli import cli
from harness.errors import UsageError
from harness.report import RunDirectory, load, summarise
from harness.report.merge import merge
from harness.verdict import BuildRecord, CaseRecord, KernelRecord, RunRecord, ShardRecord, Verdict

IDS = ["test_a::x", "test_a::y", "test_b::z"]
NUMBERS = itertools.count(1)
UNPATCHED = KERNEL.model_copy(update={"origin": "here"})
PATCHED = UNPATCHED.model_copy(update={"patches": ["one"]})


def case(name: str, verdict: Verdict = Verdict.PASS) -> CaseRecord:
    return CaseRecord(id=name, area="a", title="t", verdict=verdict, duration_s=1.0, ran_in="machine-1")


def run(*cases: CaseRecord, shard: tuple[int, int] | None = None, **changes: object) -> RunRecord:
    record = run_record(
        *cases,
        run_id=f"r{next(NUMBERS)}",
        duration_s=10.0,
        kernel=PATCHED,
        shard=ShardRecord(index=shard[0], count=shard[1], cases=IDS, settings={"MACHINE": "aer"}) if shard else None,
    )
    return record.model_copy(update=changes)


def joined(*records: RunRecord) -> RunRecord:
    return merge([(Path(f"/r/{number}"), record) for number, record in enumerate(records)], Path("/r/m"), "m")


def test_the_shards_become_one_run_in_the_order_of_collection() -> None:
    found = joined(
        run(case(IDS[1]), shard=(2, 2)),
        run(case(IDS[0]), case(IDS[2]), shard=(1, 2), started="2026-11-20T19:00:00+00:00"),
    )
    assert [each.id for each in found.cases] == IDS
    assert (found.run_id, found.duration_s, found.started, found.shard) == (
        "m",
        20.0,
        "2026-11-20T19:00:00+00:00",
        None,
    )
    assert found.summary == summarise(found.cases)
    assert [each.ran_in for each in found.cases] == ["../1/machine-1", "../0/machine-1", "../1/machine-1"]


def test_the_files_of_each_run_are_found_from_the_merged_one() -> None:
    shown = case(IDS[1], Verdict.FAIL).model_copy(update={"recording": "x.recording.json"})
    build = BuildRecord(architecture="x86_64", log="kernel-build.log", config="kernel.config")
    kernel = KernelRecord(release="7.2.12", origin="here", config_hash="c", patches=["one"], build=build)
    found = joined(run(case(IDS[0]), kernel=kernel), run(shown, kernel=kernel))
    assert [each.recording for each in found.cases] == [None, "../1/x.recording.json"]
    assert found.kernel.build
    assert (found.kernel.build.log, found.kernel.build.config) == ("../0/kernel-build.log", "../0/kernel.config")


def test_the_cases_of_a_missing_shard_are_visible() -> None:
    found = joined(run(case(IDS[0]), shard=(1, 3)), run(case(IDS[1]), shard=(2, 3)))
    missing = found.cases[2]
    assert (missing.id, missing.verdict) == (IDS[2], Verdict.ERROR)
    assert missing.reason == "MISS: no run has judged the case: shard 3 of 3 is not among the runs"


def test_a_case_that_its_shard_did_not_reach_is_visible() -> None:
    found = joined(run(case(IDS[0]), case(IDS[1]), shard=(1, 2)), run(shard=(2, 2)))
    assert found.cases[2].reason.endswith("all shards are there, but none has judged it")


@pytest.mark.parametrize(
    ("one", "other", "counts"),
    [
        ("PASS", "FAIL", "FAIL"),
        ("FAIL", "CRASH", "CRASH"),
        ("ERROR", "PASS", "PASS"),
        ("ERROR", "SKIP", "SKIP"),
        ("SKIP", "PASS", "PASS"),
        ("KNOWN", "PASS", "KNOWN"),
        ("HANG", "ERROR", "HANG"),
    ],
)
def test_the_worst_verdict_of_a_case_counts_but_not_error(one: str, other: str, counts: str) -> None:
    for verdicts in ((one, other), (other, one)):
        (found,) = joined(*(run(case(IDS[0], Verdict(verdict))) for verdict in verdicts)).cases
        assert found.verdict == counts


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"machine": "aer"}, "/r/1: the machine is aer, but that of /r/0 is intel-iommu"),
        ({"kernel": PATCHED.model_copy(update={"release": "7.3.4"})}, "the kernel is 7.3.4, h"),
        ({"kernel": UNPATCHED}, "the list of patches is empty, but"),
        ({"shard": None}, "the number of shards is None, but that of /r/0 is 2"),
    ],
)
def test_runs_of_different_things_are_not_merged(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        joined(run(shard=(1, 2)), run(shard=(2, 2)).model_copy(update=changes))


def test_no_run_is_merged_with_itself() -> None:
    record = run(case(IDS[0]))
    with pytest.raises(UsageError, match="/r/1: the same run as /r/0"):
        joined(record, record)


def test_a_file_that_is_no_record_is_refused(tmp_path: Path) -> None:
    """Not for a report.json that may lie beside it."""
    (tmp_path / "report.txt").touch()
    with pytest.raises(UsageError, match=r"report\.txt: neither a directory nor a report\.json"):
        CliRunner().invoke(cli, ["merge", str(tmp_path / "report.txt")], catch_exceptions=False)


def test_the_command_writes_every_form(tmp_path: Path) -> None:
    for number in (1, 2):
        results = tmp_path / f"artefact-{number}"
        RunDirectory(results).write(run(case(IDS[number - 1]), shard=(number, 3)), {})
    done = CliRunner().invoke(
        cli,
        ["merge", str(tmp_path / "artefact-1"), str(tmp_path / "artefact-2" / "latest"), "--into", str(tmp_path / "m")],
    )
    assert done.exit_code == 3, done.output
    assert "2 PASS, 1 ERROR" in done.output
    assert load(tmp_path / "m").summary["ERROR"] == 1
    errors = [
        each.get("name")
        for each in ET.parse(tmp_path / "m" / "junit.xml").iter("testcase")
        if each.find("error") is not None
    ]
    assert errors == [IDS[2]]
    assert f"not ok 1 {IDS[2]} # ERROR MISS" in (tmp_path / "m" / "report.ktap").read_text()
    page = (tmp_path / "m" / "report.html").read_text()
    assert "MISS: no run has judged the case" in page
    assert "MACHINE=aer" in page
