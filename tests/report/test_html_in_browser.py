# SPDX-License-Identifier: GPL-2.0-only
"""``report.html`` in a real browser: it fits the window, follows light and dark, and runs and loads nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.report import html, summarise
from harness.verdict import CaseRecord, Evidence, HostRecord, KernelRecord, RunRecord, Verdict

pytestmark = pytest.mark.browser

Browse = Callable[..., dict[str, object]]

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>" + "x" * 400


def _case(verdict: Verdict) -> CaseRecord:
    return CaseRecord(
        id=f"tests/vm/test_a.py::{HOSTILE}",
        area="doorbell",
        title=HOSTILE,
        importer=HOSTILE,
        trigger=HOSTILE,
        verdict=verdict,
        reason=HOSTILE,
        duration_s=1,
        evidence=[
            Evidence(t=0, source="host", text=HOSTILE),
            Evidence(t=0.1, source="guest", text=f"Device.export() = {HOSTILE}"),
            Evidence(t=0.2, source="trace", text=f"DMA fault: {HOSTILE}"),
            Evidence(t=0.3, source="console", text=f"WARNING: {HOSTILE}"),
        ],
    )


def _page() -> str:
    cases = [_case(verdict) for verdict in Verdict]
    run = RunRecord(
        schema_="vfio-harness/report/1",
        run_id="r",
        started="2026-11-20T20:00:00+00:00",
        duration_s=40,
        harness="0.1.0",
        host=HostRecord(qemu="7.2.22", accel="tcg", accel_reason=HOSTILE, cpu="cpu"),
        kernel=KernelRecord(release="7.2.12", origin=HOSTILE, config_hash="c0ffee"),
        machine="intel-iommu",
        summary=summarise(cases),
        cases=cases,
    )
    return html.render(run, {}, Path("/nowhere"))


@pytest.mark.parametrize("width", [700, 1400])
def test_page_fits_and_shows_every_case(browse: Browse, width: int) -> None:
    page = browse(_page(), f"--window-size={width},900")
    assert page["excess"] == 0
    assert page["rows"] == len(Verdict)
    assert page["open"] == 5, "FAIL, SPLAT, HANG, CRASH and ERROR show their evidence unfolded"
    assert page["shown"] == 5, "so are their pictures; those of the others are folded"


def test_a_click_unfolds_a_case_and_its_picture(browse: Browse) -> None:
    page = browse(_page(), click="details:not([open]) > summary")
    assert page["open"] == len(Verdict) + 1, "each case, and the area that holds those that are no problem"
    assert page["shown"] == page["pictures"] == len(Verdict)


def test_marks_have_a_text_on_hover(browse: Browse) -> None:
    page = browse(_page())
    assert page["hover"] == 9 * 3 + 5, "the host's plain mark has one in the pictures of problems only"


def test_hostile_text_runs_and_loads_nothing_although_scripts_may_run(browse: Browse) -> None:
    page = browse(_page())
    assert page["title"] == "vfio-harness: 7.2.12"
    assert page["images"] == 0


def test_page_follows_light_and_dark(browse: Browse) -> None:
    light, dark = browse(_page()), browse(_page(), "--force-dark-mode")
    assert light["color"] == "rgb(0, 0, 0)"
    assert (dark["color"], dark["background"]) == ("rgb(230, 237, 243)", "rgb(13, 17, 23)")
    assert (light["fault"], dark["fault"]) == ("rgb(207, 34, 46)", "rgb(248, 81, 73)")
