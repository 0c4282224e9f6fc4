# SPDX-License-Identifier: GPL-2.0-only
"""``index.html`` of a night in a real browser: it fits, follows light and dark, and runs and loads nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.nightly.cells import NightVerdicts
from harness.nightly.page import write_page
from harness.nightly.record import CaseChange, Cell, CellResult, CellRun, Night, Why
from harness.report import summarise, to_json
from harness.verdict import CaseRecord, Evidence, HostRecord, KernelRecord, RunRecord, Verdict

pytestmark = pytest.mark.browser

Browse = Callable[..., dict[str, object]]

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>" + "x" * 1_000_000
NAMES = ["f::good", "f::broken", f"f::{HOSTILE[:300]}", "f::lost"]


def _case(name: str, verdict: Verdict) -> CaseRecord:
    seen = [
        Evidence(t=0.1, source="guest", text=f"Device.export() = {HOSTILE}"),
        Evidence(t=0.2, source="trace", text=f"DMA fault: {HOSTILE}"),
        Evidence(t=0.3, source="console", text=f"WARNING: {HOSTILE}\nCall Trace:\n {HOSTILE}"),
    ]
    return CaseRecord(id=name, area="a", title=HOSTILE, verdict=verdict, reason=HOSTILE, duration_s=1, evidence=seen)


@pytest.fixture
def page(tmp_path: Path) -> str:
    """Return the page of a night of twelve cells: in each a case is broken, one is bad as before, and one is lost."""
    verdicts = (Verdict.PASS, Verdict.FAIL, Verdict.SPLAT)
    cases = [_case(name, verdict) for name, verdict in zip(NAMES, verdicts, strict=False)]
    cells, results, changes = [], [], []
    for number in range(12):
        name, directory = f"cell-{number}", f"cells/cell-{number}/1"
        run = RunRecord(
            run_id=name,
            started="2026-11-20T20:00:00+00:00",
            duration_s=40,
            harness="0.1.0",
            host=HostRecord(qemu="7.2.22", accel="tcg", accel_reason=HOSTILE, cpu="cpu"),
            kernel=KernelRecord(release=HOSTILE, origin=HOSTILE, config_hash=""),
            machine="m",
            summary=summarise(cases),
            cases=cases if number == 0 else cases[:2],
        )
        (tmp_path / directory).mkdir(parents=True)
        (tmp_path / directory / "report.json").write_text(to_json(run))
        started = CellRun(directory=directory, why=Why.PLAN, started="", seconds=99, exit_code=1)
        tree = f"tree-{number % 3}"
        cells.append(Cell(id=name, tree=tree, kernel=None, flavour="release", machine="m", suite="s", cases=NAMES))
        results.append(CellResult(cell=name, runs=[started]))
        changes.append(CaseChange(cell=name, case=NAMES[1], kind="broken", before="PASS", after="FAIL", reason=HOSTILE))
    night = Night(night="n", started="", ended="", plan=HOSTILE, cells=cells, results=results, changes=changes)
    night.write(tmp_path)
    return write_page(NightVerdicts.read(tmp_path), overdue=[HOSTILE]).read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [700, 1400])
def test_page_fits_and_what_is_broken_is_on_the_first_screen(browse: Browse, page: str, width: int) -> None:
    found = browse(page, f"--window-size={width},900")
    assert found["excess"] == 0
    assert "12 broken" in str(found["text"]).splitlines()
    assert found["shown"] == 1, "the timeline of what is broken; that of an old problem is folded"


def test_a_click_unfolds_the_rest(browse: Browse, page: str) -> None:
    found = browse(page, click="details:not([open]) > summary")
    assert found["shown"] == found["pictures"] == 2
    assert "nightly.json" in found["links"]  # type: ignore[operator]
    assert "cells/cell-11/1/report.html#c1" in found["links"]  # type: ignore[operator]


def test_hostile_text_runs_and_loads_nothing_although_scripts_may_run(browse: Browse, page: str) -> None:
    found = browse(page)
    assert (found["title"], found["images"]) == ("Night n", 0)


def test_page_follows_light_and_dark(browse: Browse, page: str) -> None:
    light, dark = browse(page), browse(page, "--force-dark-mode")
    assert light["color"] == "rgb(0, 0, 0)"
    assert (dark["color"], dark["background"]) == ("rgb(230, 237, 243)", "rgb(13, 17, 23)")
    assert light["fault"] != dark["fault"]
