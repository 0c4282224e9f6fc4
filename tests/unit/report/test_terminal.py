# SPDX-License-Identifier: GPL-2.0-only
"""Terminal output: plain lines in a log, live lines on a terminal, guest text escaped."""

import io
import re
import threading
import time
from pathlib import Path

from rich.console import Console

from harness.errors import KernelLacksFeature
from harness.progress import Note, phase
from harness.report import Terminal, summarise
from harness.verdict import CaseRecord, Evidence, HostRecord, KernelRecord, NoLongerSeen, RunRecord, Verdict

HOSTILE = "\x1b[2J\x07[bold]x[/bold]\u202e:smile:"
SHOWN = "\\x1b[2J\\x07[bold]x[/bold]\\u202e:smile:"


def case(verdict: Verdict, **more: object) -> CaseRecord:
    values: dict[str, object] = {"id": "t.py::test_a[edu]", "area": "doorbell", "title": "rings", "duration_s": 0.5}
    return CaseRecord.model_validate(values | {"verdict": verdict} | more)


def log(width: int = 100, *, every_case: bool = False) -> tuple[Terminal, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, width=width, markup=False, emoji=False)
    return Terminal({"KERNEL": "../linux"}, console, every_case=every_case), out


def tty() -> tuple[Terminal, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=True, markup=False, emoji=False, color_system=None)
    return Terminal({}, console), out


def test_log_has_one_line_per_begin_and_end_of_a_phase() -> None:
    terminal, out = log()
    with terminal, phase(terminal.emit, "kernel build", "from debian:7.2.12") as build:
        for step in range(1000):
            build.progress(f"file {step}", step / 1000)
        build.result = "1000 files"
    first, last = out.getvalue().splitlines()
    assert first == "kernel build ... from debian:7.2.12"
    assert re.fullmatch(r"kernel build +0\.\d s  1000 files", last)


def test_live_line_is_removed_at_the_end() -> None:
    terminal, out = tty()
    with terminal, phase(terminal.emit, "kernel build") as build:
        build.progress("file 7", 0.5)
    text = out.getvalue()
    assert "\x1b[?25l" in text
    assert text.rstrip().endswith(("\x1b[2K", "\x1b[?25h")), "the cursor is shown and the live line removed"
    assert re.search(r"kernel build +0\.\d s", text)


def test_failed_phase_leaves_no_live_line() -> None:
    terminal, out = tty()
    try:
        with terminal, phase(terminal.emit, "boot"):
            raise KernelLacksFeature("no dma-buf export", origin="Linux 6.1", hint="set CONFIG_PCI_P2PDMA=y")
    except KernelLacksFeature as error:
        terminal.failure(error)
    assert "\x1b[?25h" in out.getvalue(), "the cursor is shown"
    lines = [line.strip() for line in out.getvalue().splitlines()]
    assert lines[-2].endswith("\x1b[2Kerror: no dma-buf export")
    assert lines[-1] == "fix: set CONFIG_PCI_P2PDMA=y"


def test_pass_is_one_line() -> None:
    terminal, out = log()
    terminal.case_done(case(Verdict.PASS, importer="edu"))
    assert out.getvalue() == "PASS    0.50 s  doorbell: rings [edu]\n"


def test_the_line_of_a_case_names_its_trigger() -> None:
    terminal, out = log()
    terminal.case_done(case(Verdict.PASS, importer="edu", trigger="flr", seed=7))
    terminal.case_done(case(Verdict.PASS, trigger="flr"))
    first, second = out.getvalue().splitlines()
    assert first.endswith("rings [edu, flr] (seed 7)")
    assert second.endswith("rings [flr]")


def test_fail_shows_reason_evidence_and_repeat_command() -> None:
    terminal, out = log()
    seen = [Evidence(t=number, source="trace", text=f"doorbell {number}") for number in range(9)]
    terminal.case_done(case(Verdict.FAIL, reason="still live", evidence=seen))
    lines = [line.strip() for line in out.getvalue().splitlines()]
    assert lines[1] == "still live"
    assert lines[2:-1] == [f"{number}.000 s  trace   doorbell {number}" for number in range(4, 9)]
    assert lines[-1] == "again: make vm-test KERNEL=../linux K='test_a[edu]'"


def test_skip_shows_its_reason() -> None:
    terminal, out = log()
    terminal.case_done(case(Verdict.SKIP, reason="one NVMe only"))
    assert out.getvalue().splitlines()[1].strip() == "one NVMe only"


def run(cases: list[CaseRecord], **more: object) -> RunRecord:
    values: dict[str, object] = {
        "schema": "vfio-harness/report/1",
        "run_id": "r",
        "started": "2026-11-20T20:00:00+00:00",
        "duration_s": 40,
        "harness": "0.1.0",
        "host": HostRecord(qemu="7.2", accel="tcg", accel_reason="", cpu=""),
        "kernel": KernelRecord(release="7.2.12", origin="", config_hash=""),
        "machine": "m",
        "summary": summarise(cases),
        "cases": cases,
    }
    return RunRecord.model_validate(values | more)


def test_table_has_what_is_not_pass_and_the_tally_says_how_many_passed() -> None:
    terminal, out = log(300)
    others = [case(verdict, id=f"t.py::test_{verdict}[rxe]") for verdict in Verdict if verdict is not Verdict.PASS]
    terminal.finish(run([case(Verdict.PASS), *others, case(Verdict.PASS)]), Path("results/latest"))
    text = out.getvalue()
    for verdict in (other.verdict for other in others):
        assert re.search(rf"{verdict} +t\.py::test_{verdict}\[rxe\] +0\.50 s", text)
    assert "t.py::test_a[edu]" not in text
    assert "2 PASS, 1 FAIL, " in text.splitlines()[-1]
    assert text.splitlines()[-1].endswith("in 40.0 s; results/latest/report.html (-v lists what passed)")


def test_a_run_that_passes_has_no_table() -> None:
    terminal, out = log()
    terminal.finish(run([case(Verdict.PASS)]), Path("results/latest"))
    assert out.getvalue() == "1 PASS in 40.0 s; results/latest/report.html (-v lists what passed)\n"


def test_verbose_table_has_every_case() -> None:
    terminal, out = log(every_case=True)
    cases = [case(Verdict.PASS), case(Verdict.HANG, id="t.py::test_b[rxe]", duration_s=31)]
    terminal.finish(run(cases), Path("results/latest"))
    text = out.getvalue()
    assert re.search(r"PASS +t\.py::test_a\[edu\] +0\.50 s", text)
    assert re.search(r"HANG +t\.py::test_b\[rxe\] +31\.00 s", text)
    assert "changed:" not in text
    assert text.splitlines()[-1] == "1 PASS, 1 HANG in 40.0 s; results/latest/report.html"


def test_known_issues_that_a_change_no_longer_shows_are_listed_at_the_end() -> None:
    terminal, out = log()
    fixed = case(Verdict.FIXED, known_issue="leak")
    seen = NoLongerSeen(issue="leak", case=fixed.id)
    terminal.finish(run([fixed], no_longer_seen=[seen]), Path("results/latest"))
    assert out.getvalue().splitlines()[-3:] == [
        "changed: known issue leak is no longer seen in case t.py::test_a[edu] (FIXED)",
        "If the change does not claim this fix, look at it: it may hide the bug.",
        "1 FIXED in 40.0 s; results/latest/report.html",
    ]


def test_hostile_text_is_escaped() -> None:
    terminal, out = log(width=200)
    terminal.emit(Note(HOSTILE))
    terminal.case_done(
        case(Verdict.FAIL, title=HOSTILE, reason=HOSTILE, evidence=[Evidence(t=0, source="console", text=HOSTILE)])
    )
    assert out.getvalue().count(SHOWN) == 4
    assert all(char.isprintable() or char == "\n" for char in out.getvalue())


def test_each_machine_has_a_live_line() -> None:
    terminal, out = tty()
    with terminal:
        terminal.case_started("the first", 1)
        terminal.case_started("the second", 2)
        terminal.case_done(case(Verdict.PASS), 1)
        with terminal.paused():
            shown = len(out.getvalue())
        drawn = out.getvalue()[shown:]
    assert "the second" in drawn
    assert "the first" not in drawn


def test_paused_terminal_draws_nothing() -> None:
    terminal, out = tty()
    others = set(threading.enumerate())  # among them, perhaps, one of an earlier test that is about to end
    with terminal, phase(terminal.emit, "boot"):
        assert len(set(threading.enumerate()) - others) == 1
        with terminal.paused():
            shown = out.getvalue()
            deadline = time.monotonic() + 10
            while set(threading.enumerate()) - others:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert out.getvalue() == shown
        assert len(set(threading.enumerate()) - others) == 1


def test_a_program_that_fails_is_printed_with_the_command_that_runs_it() -> None:
    terminal, out = log(200)
    program = {"file": "results/a b/x.program", "calls": ["buffer0 = export()", HOSTILE]}
    terminal.case_done(case(Verdict.FAIL, program=program, reason="broken"))
    assert f"program: buffer0 = export()\n        program: {SHOWN}\n" in out.getvalue()
    assert "again: make vm-test KERNEL=../linux K='test_a[edu]' PROGRAM='results/a b/x.program'" in out.getvalue()
