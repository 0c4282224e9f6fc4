# SPDX-License-Identifier: GPL-2.0-only
"""Loads a page in headless Chromium, and returns what a script in it reads."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest

DEADLINE_S = 60
POLICY = "default-src 'none'; style-src 'unsafe-inline'"

# Added to a copy of the page whose policy allows scripts. The page itself has none.
PROBE = """<script>
for (const each of document.querySelectorAll(CLICK)) each.click();
const body = getComputedStyle(document.body), root = document.documentElement;
const pictures = [...document.querySelectorAll('svg.tl')], fault = document.querySelector('svg.tl .fault');
document.title = JSON.stringify({
  title: document.title, excess: root.scrollWidth - root.clientWidth, background: body.backgroundColor,
  color: body.color, rows: document.querySelectorAll('td.v').length, images: document.images.length,
  open: document.querySelectorAll('details[open]').length, pictures: pictures.length,
  shown: pictures.filter(each => each.checkVisibility() && each.getBoundingClientRect().height > 50).length,
  hover: document.querySelectorAll('svg.tl title').length, fault: fault && getComputedStyle(fault).stroke,
  links: [...document.links].map(each => each.getAttribute('href')), text: document.body.innerText,
  height: root.scrollHeight,
});
</script>"""


@pytest.fixture
def browse(tmp_path: Path) -> Callable[..., dict[str, object]]:
    """Return a function that loads a page, with options for the browser, and returns what PROBE reads from it.

    ``click``: a CSS selector of what is clicked first. The page must print nothing to the browser's console.
    """

    def load(page: str, *options: str, click: str = "nothing") -> dict[str, object]:
        chromium = shutil.which("chromium")
        assert chromium, "chromium is missing: apt-get install --no-install-recommends -y chromium"
        file = tmp_path / "page.html"
        assert POLICY in page
        probe = PROBE.replace("CLICK", json.dumps(click))
        page = page.replace(POLICY, f"{POLICY}; script-src 'unsafe-inline'").replace("</body>", f"{probe}</body>")
        file.write_text(page)
        # Chromium refuses to run as root with its sandbox. The page is trusted: the harness wrote it.
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        fixed = ["--headless=new", "--disable-gpu", "--enable-logging=stderr", *sandbox, profile]
        command = [chromium, *fixed, *options, "--dump-dom", file.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
        assert ":CONSOLE" not in done.stderr
        title = done.stdout.partition("<title>")[2].partition("</title>")[0]
        values: dict[str, object] = json.loads(unescape(title))
        return values

    return load
