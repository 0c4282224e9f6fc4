# SPDX-License-Identifier: GPL-2.0-only
"""kcidb.json: valid by KernelCI's own schema, equal to its golden files, and with each verdict in KCIDB's terms."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import ValidationError
from kcidb_io.schema.v05_03 import Version

from harness.cases.collect import collect
from harness.nightly import kcidb
from harness.nightly.cells import NightVerdicts
from harness.nightly.kcidb import excerpt, report, status, write_kcidb
from harness.run.known_issues import catalogue
from harness.verdict import BuildRecord, CaseRecord, Evidence, GitRecord, KernelRecord, PatchRecord, Verdict

WriteNight = Callable[[str], Path]


def case(verdict: Verdict, reason: str = "", **more: Any) -> CaseRecord:
    values = {"id": "test_a::test_b[x+y]", "area": "a", "title": "t", "duration_s": 1.0, **more}
    return CaseRecord.model_validate({"verdict": verdict, "reason": reason, **values})


@pytest.mark.parametrize("kind", ["broken", "broken-with-commit", "splat", "missing", "several", "error-only", "quiet"])
def test_every_night_is_valid(kind: str, write_night: WriteNight) -> None:
    text = write_kcidb(NightVerdicts.read(write_night(kind))).read_text()
    assert "null" not in text
    Version.validate_exactly(json.loads(text))


@pytest.mark.parametrize("kind", ["broken", "missing"])
def test_the_file_of_a_night(kind: str, write_night: WriteNight, golden: Callable[[str, str], None]) -> None:
    golden(f"kcidb-{kind}.json", write_kcidb(NightVerdicts.read(write_night(kind))).read_text())


def test_the_validator_refuses_what_our_ids_would_be_untranslated(write_night: WriteNight) -> None:
    """Or else the tests above prove nothing."""
    data = json.loads(write_kcidb(NightVerdicts.read(write_night("broken"))).read_text())
    data["tests"][0]["path"] = data["tests"][0]["misc"]["case"]
    with pytest.raises(ValidationError):
        Version.validate_exactly(data)


def test_each_case_has_a_path_of_its_own() -> None:
    names = {found.id for found in collect()}
    found = {kcidb.test_path(name) for name in names}
    assert len(found) == len(names) > 200
    for path in found:
        assert Version.path_re.fullmatch(path), path


@given(st.text(max_size=30))
def test_any_name_gives_a_valid_path(name: str) -> None:
    assert Version.path_re.fullmatch(kcidb.test_path(name))


@pytest.mark.parametrize(
    ("verdict", "reason", "expected"),
    [
        (Verdict.PASS, "", "PASS"),
        (Verdict.FAIL, "broken: x", "FAIL"),
        (Verdict.SPLAT, "WARNING", "FAIL"),
        (Verdict.HANG, "h", "FAIL"),
        (Verdict.CRASH, "c", "FAIL"),
        (Verdict.KNOWN, "broken: x", "FAIL"),
        (Verdict.FIXED, "no longer seen", "PASS"),
        (Verdict.SKIP, "no rxe", "SKIP"),
        (Verdict.ERROR, "QEMU was killed by signal 9", "MISS"),
        (Verdict.ERROR, "/dev/kvm: no such file", "MISS"),
        (Verdict.ERROR, "print: said so", "MISS"),
        (Verdict.ERROR, "KeyError: 'bar'", "ERROR"),
    ],
)
def test_status(verdict: Verdict, reason: str, expected: str) -> None:
    assert status(case(verdict, reason)) == expected


def test_a_known_issue_is_an_incident_that_is_present_or_not(nights: Any, make_run: Any) -> None:
    issue = catalogue()[0]
    known = case(Verdict.KNOWN, "broken", known_issue=issue.id)
    fixed = case(Verdict.FIXED, "no longer seen", known_issue=issue.id, id="test_a::test_c")
    old = case(Verdict.KNOWN, "broken", known_issue="gone", id="test_a::test_d")
    nights.cell("c", make_run([known, fixed, old]), cases=[])
    data = json.loads(write_kcidb(NightVerdicts.read(nights.write())).read_text())
    Version.validate_exactly(data)
    assert [(each["issue_id"], each["present"]) for each in data["incidents"]] == [
        (f"vfio_harness:{issue.id}", True),
        (f"vfio_harness:{issue.id}", False),
        ("vfio_harness:gone", True),
    ]
    assert [each["report_subject"] for each in data["issues"]] == [issue.title, "gone"]
    assert {each["test_id"] for each in data["incidents"]} <= {each["id"] for each in data["tests"]}


def test_what_did_not_run_is_missing_and_a_kernel_that_does_not_build_fails(nights: Any, make_run: Any) -> None:
    nights.cell(
        "unbuilt", make_run(None, error="vfio_pci_dmabuf.c:12: error: x", exit_code=1), cases=["test_a::test_b"]
    )
    nights.cell("lost", make_run(None, error="the host was lost", exit_code=None), cases=["test_a::test_b"], tree="t")
    nights.cell("never", cases=["test_a::test_b"], tree="u")
    data = json.loads(write_kcidb(NightVerdicts.read(nights.write())).read_text())
    Version.validate_exactly(data)
    assert [build["status"] for build in data["builds"]] == ["FAIL", "MISS", "MISS"]
    assert [(test["status"], test["log_excerpt"]) for test in data["tests"]] == [
        ("MISS", "vfio_pci_dmabuf.c:12: error: x"),
        ("MISS", "the host was lost"),
        ("MISS", "the cell has not run"),
    ]
    assert all(test["start_time"] for test in data["tests"])
    assert len({test["id"] for test in data["tests"]}) == 3


def test_machines_share_the_build_of_their_kernel(write_night: WriteNight) -> None:
    data = json.loads(write_kcidb(NightVerdicts.read(write_night("broken"))).read_text())
    assert (len(data["checkouts"]), len(data["builds"])) == (1, 1)
    assert {test["build_id"] for test in data["tests"]} == {data["builds"][0]["id"]}
    assert len({test["environment"]["misc"]["platform"] for test in data["tests"]}) == 2


def test_a_git_tree_has_its_commit_its_build_and_its_series(nights: Any, make_run: Any) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    git = GitRecord(url="https://host/linux.git", ref="master", commit=commit, describe="v7.3-rc4-12-g0123456789ab")
    build = BuildRecord(
        architecture="x86_64", compiler="gcc 12.2.0", started="2026-11-29T00:40:00+00:00", duration_s=71.4
    )
    patches = [PatchRecord(subject=f"{n}/2 x", message_id=f"{n}@host", sha256=str(n) * 64) for n in (1, 2)]
    kernel = {"release": "7.3.0", "origin": "git", "config_hash": "c0ffee", "git": git, "build": build}
    clean = {"kernel": KernelRecord(**kernel, series=patches)}
    started = case(Verdict.PASS, started="2026-11-29T01:00:01.500000+00:00")
    source = {"kernel": "git:https://host/linux.git@master", "series": "s.mbox", "cases": []}
    nights.cell("a", make_run([started], more=clean), **source)
    nights.cell("b", **{**source, "cases": ["test_a::test_b"]}, machine="switch")
    dirty = {**kernel, "git": git.model_copy(update={"url": "/src/linux", "dirty": True})}
    nights.cell("c", make_run([], more={"kernel": KernelRecord(**dirty)}), cases=[], tree="mine")
    data = json.loads(write_kcidb(NightVerdicts.read(nights.write())).read_text())
    Version.validate_exactly(data)
    checkout, mine = data["checkouts"]
    assert (checkout["git_commit_hash"], checkout["git_commit_name"]) == (commit, git.describe)
    assert (checkout["git_repository_url"], checkout["git_repository_branch"]) == (git.url, "master")
    assert checkout["message_id"] == "1@host"
    text = f"{'1' * 64}\n{'2' * 64}\n"
    assert checkout["patchset_hash"] == hashlib.sha256(text.encode()).hexdigest()
    assert "git_commit_hash" not in mine
    assert "git_repository_url" not in mine
    assert mine["patchset_hash"] == ""
    made, _ = data["builds"]
    assert (made["architecture"], made["compiler"], made["duration"]) == ("x86_64", "gcc 12.2.0", 71.4)
    assert made["start_time"] == build.started
    passed, missing = data["tests"][0], next(test for test in data["tests"] if test["status"] == "MISS")
    assert passed["start_time"] == started.started
    assert f"KERNEL=git:https://host/linux.git@{commit}" in passed["misc"]["reproducer"]
    assert [test["build_id"] for test in (passed, missing)] == [made["id"]] * 2


def test_an_excerpt_keeps_to_the_limit_and_is_escaped() -> None:
    flood = [Evidence(t=1.0, source="guest", text="\x1b\0" * 100_000)] * 60
    said = excerpt(case(Verdict.FAIL, "\ud800" * 40_000, evidence=flood))
    assert len(said) <= kcidb.MAX_EXCERPT
    assert all(char.isprintable() or char == "\n" for char in said)


def test_hostile_names_give_a_valid_report(nights: Any, make_run: Any) -> None:
    hostile = "\x00\x1b<script>\u202e \n::[["
    nights.cell(
        "c",
        make_run([case(Verdict.FAIL, hostile, id=hostile, title=hostile)]),
        cases=["\x00"],
        tree=hostile,
        series="\x00",
    )
    Version.validate_exactly(json.loads(write_kcidb(NightVerdicts.read(nights.write())).read_text()))


def test_an_empty_night_is_valid(nights: Any) -> None:
    Version.validate_exactly(report(NightVerdicts.read(nights.write()), []))
