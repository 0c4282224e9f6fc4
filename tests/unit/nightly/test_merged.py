# SPDX-License-Identifier: GPL-2.0-only
"""One JUnit and one KTAP document of a night: golden files, and no case that is silently left out."""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.nightly.cells import NightVerdicts
from harness.nightly.merged import write_merged
from harness.verdict import CaseRecord, Verdict

WriteNight = Callable[[str], Path]


@pytest.mark.parametrize("kind", ["missing", "several"])
def test_the_files_of_a_night(kind: str, write_night: WriteNight, golden: Callable[[str, str], None]) -> None:
    directory = write_night(kind)
    write_merged(NightVerdicts.read(directory))
    golden(f"report-{kind}.ktap", (directory / "report.ktap").read_text())
    golden(f"junit-{kind}.xml", (directory / "junit.xml").read_text())


@pytest.mark.parametrize("kind", ["broken", "missing", "several", "error-only", "quiet"])
def test_ktap_counts_its_tests(kind: str, write_night: WriteNight) -> None:
    """Each level has its version, and as many results as its plan says, numbered from 1."""
    directory = write_night(kind)
    write_merged(NightVerdicts.read(directory))

    def check(lines: list[str]) -> None:
        assert lines[0] == "KTAP version 1"
        results = [line for line in lines if line.startswith(("ok ", "not ok "))]
        assert lines[1] == f"1..{len(results)}"
        assert [line.removeprefix("not ").split()[1] for line in results] == [str(n + 1) for n in range(len(results))]
        inner: list[str] = []
        for line in [*lines[2:], ""]:
            if line.startswith("  "):
                inner.append(line[2:])
            elif inner:
                check(inner)
                assert line.startswith("not ok ") == any(entry.startswith("not ok ") for entry in inner), line
                inner = []

    check((directory / "report.ktap").read_text().splitlines())


def test_junit_counts_what_no_run_has_judged_as_errors(write_night: WriteNight) -> None:
    directory = write_night("missing")
    write_merged(NightVerdicts.read(directory))
    root = ET.fromstring((directory / "junit.xml").read_text())
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("3", "0", "2")


def test_a_cell_that_has_not_run_and_lists_no_case_is_a_miss(nights: Any) -> None:
    nights.cell("new-cell", cases=[])
    directory = nights.write()
    write_merged(NightVerdicts.read(directory))
    assert "not ok 1 new-cell # ERROR MISS: the cell has not run" in (directory / "report.ktap").read_text()
    assert 'message="MISS: the cell has not run"' in (directory / "junit.xml").read_text()


def test_what_the_guest_wrote_is_escaped(nights: Any, make_run: Any) -> None:
    hostile = "\x00\x1b[31m<b> # \u202e\nok 1 faked"
    case = CaseRecord(id=hostile, area=hostile, title="t", verdict=Verdict.FAIL, reason=hostile, duration_s=1.0)
    nights.cell("c", make_run([case], error=hostile), make_run(None, error=hostile), cases=[hostile, "a::missing"])
    directory = nights.write()
    write_merged(NightVerdicts.read(directory))
    ET.fromstring((directory / "junit.xml").read_text())
    text = (directory / "report.ktap").read_text()
    assert "\nok 1 faked" not in text
    assert all(char.isprintable() or char == "\n" for char in text)
