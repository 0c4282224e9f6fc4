# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness check``: JSON and nothing else on standard output, whatever comes in."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from harness.cases.collect import Collected
from harness.cli import cli
from harness.commands import check
from harness.errors import HarnessError, KernelBuildError, KernelError, UsageError
from harness.kernel.source import series
from harness.report.compare import Comparison, Difference, VerdictChange
from harness.verdict import Verdict

DIRECTORY = Path("/results/20261129-010000-abc")
DIFF = "--- a/drivers/vfio/pci/a.c\n+++ b/drivers/vfio/pci/a.c\n@@ -1 +1 @@\n-one\n+two\n"
PATCH = f"From: a@b\nSubject: [PATCH] vfio/pci: Change one\nMessage-ID: <1@host>\n\n{DIFF}"
COVER = "From: a@b\nSubject: [PATCH 0/1] vfio/pci\nMessage-ID: <0@host>\n\nText.\n"
LATER = PATCH.replace("[PATCH]", "[PATCH 2/3]")
DOCS = PATCH.replace("drivers/vfio/pci/a.c", "Documentation/driver-api/vfio.rst")

RESET = "test_lifecycle::test_sysfs_reset_revokes[iommufd+nvme]"
BROKEN = Difference(
    id=RESET, change=VerdictChange.BROKEN, before=Verdict.PASS, after=Verdict.FAIL, reason="broken: \x1b[31mit is live"
)
FIXED = Difference(
    id="test_a::test_b", change=VerdictChange.FIXED, before=Verdict.KNOWN, after=Verdict.FIXED, reason="no longer seen"
)


def comparison(*differences: Difference, **still: int) -> Comparison:
    return Comparison(before="7.2.12: base", after="7.2.12: series", differences=list(differences), still=still)


class Harness:
    """The command, with runs that end as a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tree: Path) -> None:
        self.tree = tree
        self.ends: Comparison | HarnessError = comparison(PASS=200, KNOWN=12, SKIP=12)
        self.cases: Any = None
        self.series: Any = None
        monkeypatch.setattr(check, "base_vs_series", self._run)

    def _run(self, options: Any, cases: Any, emit: Any) -> tuple[Comparison, Path]:
        self.cases, self.series = cases, options.series
        if isinstance(self.ends, HarnessError):
            raise self.ends
        return self.ends, DIRECTORY

    def __call__(self, text: str | bytes, *more: str) -> Result:
        return CliRunner().invoke(cli, ["check", *(more or ["--b4"]), f"--kernel={self.tree}"], input=text)


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Harness:
    tree = tmp_path / "linux"
    for name in ("Kconfig", "Kbuild", "Documentation/driver-api/vfio.rst", "drivers/vfio/pci/a.c"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("one\n")
    monkeypatch.setenv("VFIO_HARNESS_CACHE", str(tmp_path / "cache"))
    return Harness(monkeypatch, tree)


def results(result: Result) -> list[dict[str, str]]:
    """Read what b4 reads, and hold it to b4's format."""
    found: list[dict[str, str]] = json.loads(result.stdout)
    for entry in found:
        assert {"tool", "status"} <= entry.keys() <= {"tool", "status", "summary", "url", "details"}
        assert entry["status"] in ("pass", "warn", "fail")
        assert all(isinstance(value, str) for value in entry.values())
        assert "\n" not in entry["summary"]
    return found


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    def compare(name: str, text: str) -> None:
        path = Path(__file__).parent / "golden" / name
        assert path.is_file(), f"write it: {path}\n{text}"
        assert text == path.read_text(encoding="utf-8"), name

    return compare


ENDS = {
    "good": (comparison(FIXED, PASS=200, KNOWN=12, SKIP=12), 0),
    "broken": (comparison(BROKEN, FIXED, PASS=199, KNOWN=12, SKIP=12), 1),
    "unbuilt": (KernelError("drivers/vfio/pci/a.c:1:1: error: unknown type name 'two'"), 1),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_results_of_a_series(name: str, harness: Harness, golden: Callable[[str, str], None]) -> None:
    harness.ends, code = ENDS[name]
    for_b4 = harness(PATCH, "--b4")
    assert for_b4.exit_code == code
    results(for_b4)
    golden(f"check-b4-{name}.json", for_b4.stdout)
    for_patchwork = harness(PATCH, "--patchwork", "--url=https://ci.example.org/results/", "--flavour=debug")
    assert for_patchwork.exit_code == code
    golden(f"check-patchwork-{name}.json", for_patchwork.stdout)


@pytest.mark.parametrize(
    ("ends", "status", "summary"),
    [
        (comparison(SKIP=200), "warn", "nothing was tested: every case was skipped"),
        (comparison(), "warn", "nothing was tested: every case was skipped"),
        (comparison(BROKEN.model_copy(update={"change": VerdictChange.GONE})), "warn", "1 case no longer run"),
        (comparison(BROKEN.model_copy(update={"change": VerdictChange.ERROR})), "warn", "1 case not judged"),
        (comparison(PASS=1), "pass", "1 case as on the base"),
        (KernelBuildError("a.c:1: error"), "warn", "the base does not build: a.c:1: error"),
        (UsageError("-k 'x' matches no case"), "warn", "-k 'x' matches no case"),
        (HarnessError("no space left"), "warn", "no space left"),
    ],
)
def test_only_what_the_series_broke_is_a_failure(
    harness: Harness, ends: Comparison | HarnessError, status: str, summary: str
) -> None:
    harness.ends = ends
    (found,) = results(harness(PATCH))
    assert (found["status"], found["summary"]) == (status, summary)


@pytest.mark.parametrize(
    ("data", "summary"),
    [
        (b"", "standard input is empty"),
        (b" \n\n", "standard input is empty"),
        (b"hello", "there is no patch in it, and no message-id"),
        (bytes(range(256)) * 100, "there is no patch in it, and no message-id"),
        (b"\x1f\x8b truncated", "standard input:"),
        (COVER.replace("Message-ID: <0@host>\n", "").encode(), "no patch in it, and no message-id"),
        (COVER.replace("<0@host>", "<--output=/etc@host>").encode(), "no patch in it, and no message-id"),
        (COVER.replace("<0@host>", "</etc/x@host>").encode(), "no patch in it, and no message-id"),
        (LATER.replace("Message-ID: <1@host>\n", "").encode(), "has 3 patches, and these are not in it: 1, 3"),
        (DIFF.replace("-one", "-three").encode(), "does not apply"),
    ],
)
def test_bad_input_is_a_warning(harness: Harness, data: bytes, summary: str) -> None:
    ended = harness(data)
    (found,) = results(ended)
    assert found["status"] == "warn"
    assert summary in found["summary"]
    assert ended.exit_code in (1, 2)
    assert "Traceback" not in ended.output
    assert harness.series is None, "nothing ran"


@pytest.mark.parametrize("text", [COVER, LATER])
def test_one_mail_of_a_series_is_fetched(harness: Harness, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    asked = []

    def fetched(message_id: str, emit: Any) -> Path:
        asked.append(message_id)
        path = harness.tree.parent / "fetched.mbx"
        path.write_text(PATCH)
        return path

    monkeypatch.setattr(series, "_fetched", fetched)
    (found,) = results(harness(text))
    assert found["status"] == "pass"
    assert asked == [harness.series] == [text.partition("<")[2].partition(">")[0]]


def test_a_series_that_concerns_no_case_is_not_tested(harness: Harness) -> None:
    assert harness(DOCS).stdout == "[]\n"
    found = json.loads(harness(DOCS, "--patchwork").stdout)
    assert found["state"] == "warning"
    assert harness.series is None


def test_a_series_runs_the_cases_that_its_files_concern(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    results(harness(PATCH))
    assert harness.cases == (), "all"
    assert Path(harness.series).read_text() == PATCH, "kept, so that it can be run again"
    (harness.tree / "drivers/infiniband").mkdir()
    (harness.tree / "drivers/infiniband/a.c").write_text("one\n")
    ids = ["test_cmb::test_cmb_write[rxe]", "test_cmb::test_cmb_write[iommufd+nvme]"]
    monkeypatch.setattr(check, "collect", lambda: [Collected(name, name, ()) for name in ids])
    results(harness(PATCH.replace("drivers/vfio/pci", "drivers/infiniband")))
    assert [Path(name).name for name in harness.cases] == [ids[0]]


def test_the_context_is_a_slug(harness: Harness) -> None:
    found = json.loads(harness(PATCH, "--patchwork", "--suite=stress", "--machine=my machines/a b.yaml").stdout)
    assert found["context"] == "vfio-dmabuf-release-stress-a-b"
    assert found["target_url"] == "file:///results/20261129-010000-abc/series/latest/report.html"


def test_a_form_is_required() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "harness", "check"], input="", capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 2
    assert "--b4 or --patchwork" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


def test_only_json_is_on_standard_output() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "harness", "check", "--b4"],
        input=b"\xff\x00",
        capture_output=True,
        check=False,
        timeout=60,
    )
    (entry,) = json.loads(ended.stdout)
    assert (entry["status"], ended.returncode) == ("warn", 2)
    assert b"Traceback" not in ended.stderr
