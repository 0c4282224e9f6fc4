# SPDX-License-Identifier: GPL-2.0-only
"""Runs in parallel, by real child processes: small programs in place of ``vfio-harness run``."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from processes import gone, wait_until_gone
from run_records import run_record

from harness.commands import children
from harness.commands.children import ERROR, Ended, Task, error_written_to, read_error, run_all
from harness.errors import HarnessError, KernelBuildError, KernelError, UsageError
from harness.report.record import RunDirectory
from harness.run.options import Options
from harness.verdict import CaseRecord, RunRecord, Verdict

DEADLINE_S = 20.0


@dataclass(frozen=True)
class Program(Task):
    """A task that runs Python code; ``{directory}`` in it is the task's."""

    code: str = field(default="", kw_only=True)

    def command(self) -> list[str]:
        return [sys.executable, "-c", self.code.replace("{directory}", str(self.directory))]


@dataclass
class Ends:
    """Collects the ends of tasks, in order."""

    ended: dict[str, Ended] = field(default_factory=dict)

    def __call__(self, task: Task, end: Ended) -> None:
        self.ended[task.name] = end


def program(directory: Path, name: str, code: str) -> Program:
    return Program(name, Options(), directory / name, code=code)


def wait_for_file(path: Path) -> str:
    deadline = time.monotonic() + DEADLINE_S
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.01)
    return path.read_text()


def record() -> RunRecord:
    case = CaseRecord(id="test_a::test_x", area="a", title="t", verdict=Verdict.FAIL, reason="r", duration_s=1.0)
    return run_record(case)


def test_a_command_line_is_that_of_a_run_with_one_machine(tmp_path: Path) -> None:
    task = Task("it", Options(machine="aer", fail_fast=True), tmp_path, ["test_a.py::test_x"])
    assert task.command()[3:] == [
        "harness",
        "run",
        "--jobs=1",
        f"--error-file={tmp_path / ERROR}",
        "--machine=aer",
        "--fail-fast",
        "test_a.py::test_x",
    ]


def test_each_end_has_its_code_and_record(tmp_path: Path) -> None:
    RunDirectory(tmp_path / "good").write(record(), {})
    ends = Ends()
    good = program(tmp_path, "good", "print('done'); raise SystemExit(1)")
    bad = program(tmp_path, "bad", "print('no'); raise SystemExit(7)")
    run_all([good, bad], 2, ends)
    assert ends.ended["good"].code == 1
    assert ends.ended["good"].require() == record()
    assert str(good) == "good: done"
    with pytest.raises(HarnessError, match=r"bad ended with exit code 7: .*output.txt"):
        ends.ended["bad"].require()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KernelBuildError("a.c:1: error", hint="fix it"), KernelError),
        (UsageError("wrong"), UsageError),
        (HarnessError("lost\nlines"), HarnessError),
    ],
)
def test_an_error_before_the_first_case_comes_back_as_what_it_was(
    tmp_path: Path, error: HarnessError, kind: type[HarnessError]
) -> None:
    with pytest.raises(type(error)), error_written_to(tmp_path / ERROR):
        raise error
    found = read_error(tmp_path / ERROR)
    assert type(found) is kind
    assert (str(found), found.hint) == (str(error), error.hint)


def test_a_child_s_error_is_read_from_its_file_not_its_output(tmp_path: Path) -> None:
    text = json.dumps({"exit_code": 1, "message": "it does not build", "hint": None})
    code = f"open('{{directory}}/{ERROR}', 'w').write('''{text}'''); print('error: other'); raise SystemExit(1)"
    ends = Ends()
    run_all([program(tmp_path, "it", code)], 1, ends)
    with pytest.raises(KernelError, match=r"^it does not build$"):
        ends.ended["it"].require()


def test_a_real_run_writes_its_error(tmp_path: Path) -> None:
    ends = Ends()
    run_all([Task("it", Options(machine="intel-immu"), tmp_path / "it")], 1, ends)
    assert ends.ended["it"].code == UsageError.exit_code
    with pytest.raises(UsageError, match="intel-immu"):
        ends.ended["it"].require()


def test_no_more_run_in_parallel_than_jobs(tmp_path: Path) -> None:
    code = (
        "import os, time, pathlib; top = pathlib.Path('{directory}').parent; mark = top / f'running-{os.getpid()}';"
        "mark.touch(); (top / f'seen-{os.getpid()}').write_text(str(len(list(top.glob('running-*')))));"
        "time.sleep(0.2); mark.unlink()"
    )
    run_all([program(tmp_path, str(number), code) for number in range(5)], 2, Ends())
    seen = [int(path.read_text()) for path in tmp_path.glob("seen-*")]
    assert len(seen) == 5
    assert max(seen) <= 2


def test_ticks_have_the_running_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "TICK_S", 0.05)
    seen: list[str] = []
    task = program(tmp_path, "it", "import time; print('working', flush=True); time.sleep(0.5)")
    run_all([task], 1, Ends(), lambda running: seen.extend(map(str, running)))
    assert "it: working" in seen


def test_a_deadline_ends_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "TICK_S", 0.05)
    monkeypatch.setattr(children, "RUN_S", 2.0)  # both have started by then
    code = "import os, time; open('{directory}/pid', 'w').write(str(os.getpid())); time.sleep(60)"
    tasks = [program(tmp_path, name, code) for name in ("one", "two")]
    with pytest.raises(HarnessError, match="took longer than"):
        run_all(tasks, 2, Ends())
    assert all(gone(int((task.directory / "pid").read_text())) for task in tasks)


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "LEAVE_S", 0.2)
    code = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "open('{directory}/pid', 'w').write(str(os.getpid())); time.sleep(60)"
    )
    task = program(tmp_path, "it", code)

    def interrupt(running: object) -> None:
        wait_for_file(task.directory / "pid")
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_all([task], 1, Ends(), interrupt)
    assert time.monotonic() - began < DEADLINE_S
    assert gone(int((task.directory / "pid").read_text()))


PARENT = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have the tests' background job ignore it
sys.path[:] = {path}
from test_children import Ends, program
from harness.commands.children import run_all
code = '''
import os, pathlib, signal, sys, time
def leave(number, frame):
    pathlib.Path("{{directory}}/cleaned").write_text("yes")
    sys.exit(1)
signal.signal(signal.SIGTERM, leave)
pathlib.Path("{{directory}}/pid").write_text(str(os.getpid()))
time.sleep(60)
'''
run_all([program(Path(sys.argv[1]), "it", code)], 1, Ends())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_children_clean_up_when_the_harness_is_interrupted_or_killed(tmp_path: Path, number: int) -> None:
    script = PARENT.format(path=[str(Path(__file__).parent), *sys.path])
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stderr=subprocess.DEVNULL) as parent:
        pid = int(wait_for_file(tmp_path / "it" / "pid"))
        os.kill(parent.pid, number)
        parent.wait(DEADLINE_S)
    assert wait_for_file(tmp_path / "it" / "cleaned") == "yes"
    wait_until_gone(pid, DEADLINE_S)
