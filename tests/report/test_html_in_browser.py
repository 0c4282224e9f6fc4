# SPDX-License-Identifier: GPL-2.0-only
"""``report.html`` in a real browser: it fits the window, follows light and dark, and runs and loads nothing."""

import json
import os
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

from harness.report import html, summarise
from harness.verdict import CaseRecord, Evidence, HostRecord, KernelRecord, RunRecord, Verdict

pytestmark = pytest.mark.browser

DEADLINE_S = 60
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>" + "x" * 400

# Added to a copy of the page whose policy allows scripts. The page itself has none.
PROBE = """<script>
const body = getComputedStyle(document.body), root = document.documentElement;
document.title = JSON.stringify({
  title: document.title, excess: root.scrollWidth - root.clientWidth, background: body.backgroundColor,
  color: body.color, rows: document.querySelectorAll('td.v').length, images: document.images.length,
  open: document.querySelectorAll('details[open]').length,
});
</script>"""


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
        evidence=[Evidence(t=0, source="console", text=HOSTILE)],
    )


def _page() -> str:
    cases = [_case(verdict) for verdict in Verdict]
    run = RunRecord(
        schema="vfio-harness/report/1",
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
    return html.render(run, {})


def _load(page: str, directory: Path, *options: str) -> dict[str, object]:
    """Load ``page`` in the browser. Returns what PROBE reads from it."""
    chromium = shutil.which("chromium")
    assert chromium, "chromium is missing: apt-get install --no-install-recommends -y chromium"
    file = directory / "page.html"
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    assert policy in page
    file.write_text(page.replace(policy, f"{policy}; script-src 'unsafe-inline'").replace("</body>", f"{PROBE}</body>"))
    # Chromium refuses to run as root with its sandbox. The page is trusted: the harness wrote it.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    profile = f"--user-data-dir={directory / 'profile'}"
    command = [chromium, "--headless=new", "--disable-gpu", *sandbox, profile, *options, "--dump-dom", file.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True).stdout
    title = dom.partition("<title>")[2].partition("</title>")[0]
    values: dict[str, object] = json.loads(unescape(title))
    return values


@pytest.mark.parametrize("width", [700, 1400])
def test_page_fits_and_shows_every_case(tmp_path: Path, width: int) -> None:
    page = _load(_page(), tmp_path, f"--window-size={width},900")
    assert page["excess"] == 0
    assert page["rows"] == len(Verdict)
    assert page["open"] == 5, "FAIL, SPLAT, HANG, CRASH and ERROR show their evidence unfolded"


def test_hostile_text_runs_and_loads_nothing_although_scripts_may_run(tmp_path: Path) -> None:
    page = _load(_page(), tmp_path)
    assert page["title"] == "vfio-harness: 7.2.12"
    assert page["images"] == 0


def test_page_follows_light_and_dark(tmp_path: Path) -> None:
    light = _load(_page(), tmp_path)
    dark = _load(_page(), tmp_path, "--force-dark-mode")
    assert light["color"] == "rgb(0, 0, 0)"
    assert (dark["color"], dark["background"]) == ("rgb(230, 237, 243)", "rgb(13, 17, 23)")
