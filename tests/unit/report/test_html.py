# SPDX-License-Identifier: GPL-2.0-only
"""``report.html``: problems first, passes folded, and a limit on its size."""

import re
from pathlib import Path

import pytest
from run_records import run_record

from harness.report import html
from harness.verdict import CaseRecord, Evidence, Verdict

WARNING = "WARNING: a.c:1 at f+0x1/0x2\nRAX: 0\nCall Trace:\n <TASK>\n g+0x1/0x2\n ? h+0x1/0x2\n </TASK>"


def case(verdict: Verdict, name: str = "test_a", **more: object) -> CaseRecord:
    seen = [Evidence(t=0.1, source="guest", text="Device.export() = #1"), Evidence(t=0.2, source="trace", text="t")]
    values: dict[str, object] = {"id": f"f::{name}", "area": "revoke", "title": name, "duration_s": 1, "evidence": seen}
    return CaseRecord.model_validate(values | {"verdict": verdict} | more)


def page(*cases: CaseRecord, directory: Path = Path("/nowhere")) -> str:
    run = run_record(*cases)
    return html.render(run, {}, directory)


def test_problems_come_first_then_known_issues_then_what_passed() -> None:
    text = page(case(Verdict.PASS, "good"), case(Verdict.KNOWN, "known"), case(Verdict.HANG, "bad"))
    assert text.index("f::bad") < text.index("f::known") < text.index("f::good")


def test_each_case_is_there_once_with_its_anchor() -> None:
    text = page(*(case(verdict, f"test_{verdict}") for verdict in Verdict))
    for number, verdict in enumerate(Verdict):
        assert text.count(f'id="{html.anchor(number)}"') == 1
        assert text.count(f"f::test_{verdict}") == 1


def test_a_run_without_a_problem_has_no_section_of_problems() -> None:
    assert "<h2>Problems</h2>" not in page(case(Verdict.PASS))
    assert "<h2>Problems</h2>" in page(case(Verdict.ERROR))


def test_only_the_evidence_of_problems_is_open() -> None:
    assert page(case(Verdict.PASS), case(Verdict.KNOWN), case(Verdict.FAIL)).count("<details open>") == 1


def test_each_case_has_its_picture() -> None:
    text = page(case(Verdict.PASS), case(Verdict.FAIL))
    assert text.count("<svg") == 2
    assert text.count("Device.export() = #1</title>") == 2


def test_a_splat_is_outlined_above_the_evidence() -> None:
    text = page(case(Verdict.SPLAT, evidence=[Evidence(t=1, source="console", text=WARNING)] * 2))
    (outlined,) = re.findall(r'<pre class="splat">(.*?)</pre>', text, re.S)
    assert outlined == "<b>WARNING: a.c:1 at f+0x1/0x2</b>\n &lt;TASK&gt;\n g+0x1/0x2\n &lt;/TASK&gt;\n"


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.FAIL, Verdict.SPLAT])
def test_a_guest_that_prints_megabytes_does_not_make_a_page_of_megabytes(verdict: Verdict) -> None:
    flood = Evidence(t=1, source="console", text="BUG: <" + "\x1b" * 16_000)
    text = page(*(case(verdict, f"test_{number}", reason="<" * 9000, evidence=[flood] * 20) for number in range(300)))
    assert len(text.encode()) < 2_000_000
    assert "this page leaves out" in text
    assert text.count('class="v ') == 300, "no case is left out"


def test_a_page_that_leaves_nothing_out_does_not_say_so() -> None:
    assert "leaves out" not in page(case(Verdict.FAIL))


def test_the_logs_of_devices_and_of_a_second_vm_are_linked_where_they_exist(tmp_path: Path) -> None:
    for name in ("machine-1", "machine-2", "machine-2/peer"):
        (tmp_path / name).mkdir()
    for name in ("machine-1/nvme0.device.jsonl", "machine-1/af0.device.jsonl", "machine-2/peer/console.log"):
        (tmp_path / name).touch()
    text = page(case(Verdict.FAIL, ran_in="machine-1"), case(Verdict.FAIL, ran_in="machine-2"), directory=tmp_path)
    links = re.findall(r'<a href="(machine-[^"]+)"', text)
    assert [link for link in links if link.startswith("machine-1/")][-2:] == [
        "machine-1/af0.device.jsonl",
        "machine-1/nvme0.device.jsonl",
    ]
    assert links[-1] == "machine-2/peer/console.log"
    assert not [link for link in links if link.startswith("machine-2/") and "jsonl" in link]
