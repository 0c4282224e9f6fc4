# SPDX-License-Identifier: GPL-2.0-only
"""The record of a night."""

from pathlib import Path

from harness.nightly.record import FILE, Cell, CellResult, Night


def test_a_night_that_was_killed_before_its_first_run_names_what_is_missing(tmp_path: Path) -> None:
    cell = Cell(id="a", tree="t", kernel=None, flavour="release", machine="m", suite="default", cases=["f::c"])
    night = Night(night="2026-01-01", started="s", plan="p", cells=[cell], results=[CellResult(cell="a")])
    night.write(tmp_path)
    read = Night.model_validate_json((tmp_path / FILE).read_text())
    assert read == night
    assert (read.ended, read.cells[0].cases, read.results[0].runs) == (None, ["f::c"], [])
