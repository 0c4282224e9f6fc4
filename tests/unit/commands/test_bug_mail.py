# SPDX-License-Identifier: GPL-2.0-only
"""``bugs mail``: the text of the report, and what is refused."""

import json
from pathlib import Path

import pytest
from run_records import run_record

from harness.bugs import Bug
from harness.bugs.fix_mail import Author
from harness.bugs.kernel_scripts import Recipients
from harness.commands import bug_mail
from harness.commands.bug_draft import Draft
from harness.commands.repro import Reproduction, Sides
from harness.errors import UsageError
from harness.progress import silent
from harness.run.known_issues import KnownIssue
from harness.run.options import Options
from harness.verdict import CaseRecord, Evidence, RunRecord, Verdict

FIELDS = {
    "title": "each unmap leaks the scatter list",
    "reporter": "Oded Gabbay",
    "date": "2022-08-21",
    "thread": "Re: [PATCH 4/4] vfio/pci",
    "affected": "7.2.12 and 7.3.4",
    "fixed": "not yet",
    "symptom": "sg_free_table() frees nothing.\n",
    "trigger": "Map and unmap.",
    "kernels": ">=7.2, <7.4",
    "introduced_by": {"commit": "3aa31a8bb11e", "subject": "dma-buf: provide phys_vec"},
}
EXPECTS = {"verdict": "FAIL", "cases": ["test_a::*"], "reason": "broken: an unmap frees"}
SPLAT = "WARNING: CPU: 0 PID: 1 at mm/slab.c:1 f+0x1/0x2\nCall Trace:\n f+0x1/0x2"
CALLS = [
    Evidence(t=0.2, source="guest", text="Device.export() = #5"),
    Evidence(t=0.4, source="trace", text="doorbell: sq 0 = 1"),
]


def entry(**more: object) -> Bug:
    return Bug.model_validate_json(json.dumps({"id": "leak", **FIELDS, "expects": EXPECTS, **more}))


def run(*cases: tuple[str, Verdict], evidence: list[Evidence] | None = None) -> RunRecord:
    records = [
        CaseRecord(
            id=f"test_a::test_{name}",
            area="a",
            title="t",
            verdict=verdict,
            reason="broken: an unmap frees the list; seen: 512 bytes more",
            known_issue="leak" if verdict is Verdict.KNOWN else None,
            duration_s=1,
            evidence=CALLS if evidence is None else evidence,
        )
        for name, verdict in cases
    ]
    return run_record(*records, harness="0.1.0")


def reproduction(bad: RunRecord, control: RunRecord | None) -> Reproduction:
    return Reproduction(entry(), Sides(Options(), Options(series="x")), bad, control, Path("results/r"))


BAD = run(("x", Verdict.KNOWN), ("y", Verdict.KNOWN), ("z", Verdict.PASS))
GOOD = run(("x", Verdict.FIXED), ("y", Verdict.PASS), ("z", Verdict.PASS))
WHOM = Recipients(("M <m@example.org>", "N <n@example.org>"), ("l@example.org",))


def test_the_report_says_all_that_a_maintainer_needs() -> None:
    issue = KnownIssue.model_validate_json(
        json.dumps(
            {
                "id": "leak",
                "title": "t",
                "cases": ["test_a::*"],
                "kernels": ">=7.2",
                "symptom": {"verdicts": ["FAIL"], "reason": "x"},
                "review_by": "7.4",
                "evidence": "dma_buf_free_sgt() frees orig_nents entries:\nnone.",
                "link": "drivers/dma-buf/dma-buf-mapping.c:254 (7.2.12)",
            }
        )
    )
    program = ("leak.c", "int main(void) { return 0; }\n")
    text = Draft(reproduction(BAD, GOOD), issue, WHOM, "A <a@example.org>", "0001-fix.patch", program).text()
    assert text == (
        "From: A <a@example.org>\n"
        "To: M <m@example.org>,\n    N <n@example.org>\n"
        "Cc: l@example.org\n"
        "Subject: [BUG] vfio dma-buf: each unmap leaks the scatter list\n"
        "\n"
        "Hi,\n"
        "\n"
        "dma_buf_free_sgt() frees orig_nents entries: none. To provoke it: Map\n"
        "and unmap.\n"
        "\n"
        "Affected: 7.2.12 and 7.3.4\n"
        "Code: drivers/dma-buf/dma-buf-mapping.c:254 (7.2.12)\n"
        "Reported before: Oded Gabbay, 2022-08-21: Re: [PATCH 4/4] vfio/pci\n"
        "\n"
        'Fixes: 3aa31a8bb11e ("dma-buf: provide phys_vec")\n'
        "\n"
        "Seen on Linux 7.2.12 (debian:7.2.12), on the machine intel-iommu (QEMU\n"
        "7.2.22, tcg):\n"
        "\n"
        "  broken: an unmap frees the list; seen: 512 bytes more\n"
        "\n"
        "What the guest did, and what the host saw of the devices, in seconds:\n"
        "\n"
        "     0.200 guest export    Device.export() = #5\n"
        "     0.400 host  doorbell  doorbell: sq 0 = 1\n"
        "\n"
        "On the same kernel with the patch of the next mail (0001-fix.patch), the\n"
        "2 cases that show the bug pass.\n"
        "\n"
        "To reproduce it with vfio-harness:\n"
        "\n"
        "  make vm-test K=test_x\n"
        "\n"
        "The same without it, as one program, leak.c:\n"
        "\n"
        "int main(void) { return 0; }\n"
        "\n"
        "-- \n"
        "vfio-harness 0.1.0\n"
    )


def test_the_kernels_log_replaces_the_timeline() -> None:
    bad = run(("x", Verdict.KNOWN), evidence=[*CALLS, Evidence(t=0.5, source="console", text=SPLAT)])
    text = Draft(reproduction(bad, GOOD), None, WHOM, "A <a@example.org>", "0001-fix.patch").text()
    assert "The kernel's log:\n\n  WARNING: CPU: 0 PID: 1 at mm/slab.c:1 f+0x1/0x2\n  Call Trace:\n" in text
    assert "What the guest did" not in text
    assert "sg_free_table() frees nothing. To provoke it: Map and unmap." in text, "without a known issue, the symptom"


def test_without_a_patch_the_report_says_so() -> None:
    text = Draft(reproduction(BAD, None), None, Recipients((), ()), "A <a@example.org>").text()
    assert "I have no patch for it." in text
    assert "\nTo:" not in text


def test_a_kernel_without_the_bug_and_a_bug_that_is_fixed_are_refused(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("VERSION = 7\nPATCHLEVEL = 5\nSUBLEVEL = 0\nEXTRAVERSION =\n")
    for name in ("Kconfig", "Kbuild"):
        (tmp_path / name).touch()
    options, author = Options(kernel=str(tmp_path)), Author("A", "a@example.org")
    with pytest.raises(UsageError, match=r"leak is no bug of 7.5.0: its entry names kernels >=7.2, <7.4"):
        bug_mail.write_mails(entry(), author, options, silent)
    upstream = [{"commit": "b344ca94e8cc", "subject": "dma-buf: Fix it"}]
    with pytest.raises(UsageError, match=r"leak is fixed upstream by b344ca94e8cc dma-buf: Fix it"):
        bug_mail.write_mails(entry(fixed_by=upstream), author, options, silent)


def test_nothing_is_written_if_the_bug_or_its_fix_does_not_show() -> None:
    found = reproduction(run(("x", Verdict.PASS)), GOOD)
    written = bug_mail.Written(found, ())
    assert written.exit_code == 1
    assert str(written).endswith("no mail: the bug and its fix must show first")
    complained = bug_mail.Written(reproduction(BAD, GOOD), (Path("report.txt"),), ("ERROR: trailing whitespace",))
    assert complained.exit_code == 1
    assert "checkpatch.pl: ERROR: trailing whitespace" in str(complained)
    assert bug_mail.Written(reproduction(BAD, GOOD), (Path("report.txt"),)).exit_code == 0
