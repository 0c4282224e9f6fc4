# SPDX-License-Identifier: GPL-2.0-only
"""The summary for the page of a CI job."""

from pathlib import Path

from click.testing import CliRunner
from run_records import HOST, KERNEL, run_record

from harness.cli import cli
from harness.report import markdown, to_json
from harness.verdict import CaseRecord, RunRecord, Verdict

HOSTILE = "<script>alert(1)</script> | `x` \x1b[31m\n\n# heading\ufffd"


def case(number: int, verdict: Verdict, reason: str = "still live") -> CaseRecord:
    return CaseRecord(
        id=f"test_a::test_{number}", area="a", title="A rule.", importer=None, trigger=None, verdict=verdict,
        reason=reason, duration_s=1,
    )  # fmt: skip


def run(*cases: CaseRecord) -> RunRecord:
    return run_record(
        *cases,
        duration_s=12.5,
        host=HOST.model_copy(update={"qemu": "QEMU 10.0"}),
        kernel=KERNEL.model_copy(update={"origin": "a <tree>", "patches": [HOSTILE]}),
    )


def test_what_blames_the_kernel_comes_first_and_passes_are_counted() -> None:
    text = markdown.render(run(case(1, Verdict.PASS), case(2, Verdict.SKIP), case(3, Verdict.FAIL)))
    assert text.startswith("### vfio-harness: 1 PASS, 1 FAIL, 1 SKIP\n")
    assert "kernel 7.2.12 (a &lt;tree&gt;), machine intel-iommu, QEMU 10.0" in text
    assert "test_1" not in text
    assert text.index("test_3") < text.index("test_2")


def test_a_run_of_passes_has_no_table() -> None:
    assert "<table>" not in markdown.render(run(case(1, Verdict.PASS)))


def test_text_of_a_guest_is_text() -> None:
    text = markdown.render(run(case(1, Verdict.FAIL, HOSTILE)))
    assert "<script" not in text
    assert "\x1b" not in text
    assert "# heading" not in text


def test_a_page_has_a_bound() -> None:
    text = markdown.render(run(*(case(number, Verdict.ERROR, "&" * 5000) for number in range(1000))))
    assert len(text) < 1 << 20
    assert text.count("<tr>") == markdown.MAX_ROWS + 1
    assert text.endswith("<p>and 800 more: see report.html</p>\n")


def test_command_reads_a_run(tmp_path: Path) -> None:
    record = run(case(1, Verdict.FAIL))
    (tmp_path / "report.json").write_text(to_json(record))
    done = CliRunner().invoke(cli, ["summary", str(tmp_path)])
    assert (done.exit_code, done.output) == (0, markdown.render(record))
