# SPDX-License-Identifier: GPL-2.0-only
"""Nights with real child processes: a stand-in program in place of ``vfio-harness run``."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from harness.commands import children, nightly_dask, nightly_local, nightly_run
from harness.commands.children import Children
from harness.commands.nightly_cells import CaseList
from harness.commands.nightly_dask import DaskRunner
from harness.commands.nightly_local import LocalRunner, free_memory_mib
from harness.commands.nightly_run import Limits, begun, continued, new_night, pin, run_night
from harness.commands.nightly_worker import RemoteRun, pack, unpack
from harness.errors import HarnessError, UsageError
from harness.nightly.nights import nights_dir
from harness.nightly.outcomes import load_night
from harness.nightly.record import Cell, CellRun, Night, Why
from harness.progress import Note, silent

DEADLINE_S = 30.0

STAND_IN = '''
"""Behaves as vfio-harness run does: writes report.json into --run-directory. What it does is in does.json, by tree."""
import json, os, pathlib, random, signal, sys, time
options = dict(word[2:].split("=", 1) for word in sys.argv[2:] if word.startswith("--") and "=" in word)
cases = [word.rpartition("/")[2].replace(".py::", "::") for word in sys.argv[2:] if not word.startswith("--")]
top = pathlib.Path(__file__).parent
does = json.loads((top / "does.json").read_text())[options["kernel"]]
directory = pathlib.Path(options["run-directory"])
seed = int(options.get("seed", random.randrange(1 << 30)))
with (top / "started").open("a") as started:
    started.write(options["kernel"] + "\\n")
for path in top.glob("pid-" + options["kernel"] + "-*"):
    stat = pathlib.Path("/proc", path.name.rpartition("-")[2], "stat")
    if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        (top / "twice").touch()
(top / f"pid-{options['kernel']}-{os.getpid()}").write_text(str(os.getppid()))
def write(verdicts):
    report = {
        "schema": "vfio-harness/report/1", "run_id": "r", "started": "s", "duration_s": 1.0, "harness": "0",
        "host": {"qemu": "", "accel": "tcg", "accel_reason": "", "cpu": ""},
        "kernel": {"release": "7.2.12", "origin": "o", "config_hash": ""}, "machine": "intel-iommu", "summary": {},
        "cases": [
            {"id": case, "area": "a", "title": "t", "verdict": verdict, "duration_s": 1.0, "seed": seed}
            for case, verdict in verdicts.items()
        ],
    }
    (directory / "report.json").write_text(json.dumps(report))
def leave(number, frame):
    write(dict(list(does["verdicts"].items())[:1]))
    sys.exit(130)
signal.signal(signal.SIGTERM, leave)
(directory / "pid").write_text(str(os.getpid()))
for _ in range(600 * bool(does.get("stay"))):
    print("waiting", flush=True)
    if (top / "released").exists():
        break
    time.sleep(0.1)
if "error" in does:
    error = {"exit_code": does["code"], "message": does["error"], "hint": None}
    (directory / "error.json").write_text(json.dumps(error))
    sys.exit(does["code"])
if does.get("kill"):
    os.kill(os.getpid(), signal.SIGKILL)
verdicts = {case: verdict for case, verdict in does["verdicts"].items() if not cases or case in cases}
later = does.get("later", {}) if cases else {}
verdicts = {case: random.choice(later[case]) if case in later else verdict for case, verdict in verdicts.items()}
write(verdicts)
sys.exit(1 if "FAIL" in verdicts.values() else 3 if "ERROR" in verdicts.values() else 0)
'''


def cell(tree: str, *cases: str, expected_s: float | None = None) -> Cell:
    return Cell(
        id=f"{tree}-cell",
        tree=tree,
        kernel=tree,
        flavour="release",
        machine="intel-iommu",
        suite="default",
        expected_s=expected_s,
        cases=list(cases or ("test_a::x", "test_a::y")),
    )


GOOD = {"test_a::x": "PASS", "test_a::y": "PASS"}


class House:
    """Where nights run: the stand-in, and what it does for each tree."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.nights = nights_dir()
        (top / "stand_in.py").write_text(STAND_IN)

    def does(self, **trees: dict[str, object]) -> None:
        """Say what the stand-in does: the verdicts of its cases, or another end."""
        (self.top / "does.json").write_text(json.dumps(trees))

    def run(self, *cells: Cell, limits: Limits | None = None, deadline_s: float | None = None) -> tuple[int, Night]:
        """Run a night, or continue the newest one if no cell is given."""
        new = begun(self.nights, new_night(Path("/plan.yaml"), cells, deadline_s)) if cells else continued(self.nights)
        with new as running, Children() as started:
            code = run_night(running, LocalRunner(started, CaseList([])), limits or Limits(), silent)
        return code, load_night(running.directory)

    def started(self) -> list[str]:
        """Return the trees whose runs were started, in order."""
        return (self.top / "started").read_text().split()


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("VFIO_HARNESS_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(children, "PROGRAM", (sys.executable, str(tmp_path / "stand_in.py")))
    monkeypatch.setattr(children, "TICK_S", 0.05)
    return House(tmp_path)


def runs(night: Night, number: int = 0) -> list[tuple[Why, int | None]]:
    return [(run.why, run.exit_code) for run in night.results[number].runs]


def cases_of(house: House, run: CellRun) -> list[dict[str, Any]]:
    """Return the cases of a run of the newest night."""
    report = json.loads((house.nights / "latest" / run.directory / "report.json").read_text())
    return list(report["cases"])


def test_each_cell_runs_once(house: House) -> None:
    house.does(a={"verdicts": GOOD}, b={"verdicts": GOOD})
    code, night = house.run(cell("a"), cell("b"))
    assert code == 0
    assert [runs(night, number) for number in (0, 1)] == [[(Why.PLAN, 0)], [(Why.PLAN, 0)]]
    assert night.ended
    assert house.started() == ["a", "b"]
    run = night.results[0].runs[0]
    assert run.directory == "cells/a-cell/1"
    assert (house.nights / "latest" / run.directory / "report.json").exists()
    assert (house.nights / "latest").resolve().name == night.night


def test_a_fail_does_not_stop_the_others(house: House) -> None:
    house.does(a={"verdicts": GOOD | {"test_a::y": "FAIL"}}, b={"verdicts": GOOD})
    assert house.run(cell("a"), cell("b"))[0] == 1
    assert house.started() == ["a", "b"]
    code, night = house.run(cell("a"), cell("b"), limits=Limits(keep_going=False))
    assert (code, runs(night, 1)) == (1, [])


def test_a_case_that_the_run_lacks_is_a_miss(house: House) -> None:
    house.does(a={"verdicts": {"test_a::x": "PASS"}})
    assert house.run(cell("a"))[0] == 3


def test_errors_run_once_again(house: House) -> None:
    house.does(a={"verdicts": GOOD | {"test_a::y": "ERROR"}, "later": {"test_a::y": ["PASS"]}})
    code, night = house.run(cell("a"))
    assert (code, runs(night)) == (0, [(Why.PLAN, 3), (Why.AGAIN, 0)])
    assert [case["id"] for case in cases_of(house, night.results[0].runs[1])] == ["test_a::y"]


def test_a_second_error_stays(house: House) -> None:
    house.does(a={"verdicts": GOOD | {"test_a::y": "ERROR"}})
    code, night = house.run(cell("a"))
    assert (code, runs(night)) == (3, [(Why.PLAN, 3), (Why.AGAIN, 3)])


@pytest.mark.parametrize(
    ("end", "found"), [(3, [(Why.PLAN, 3), (Why.AGAIN, 3)]), (2, [(Why.PLAN, 2)]), (1, [(Why.PLAN, 1)])]
)
def test_an_error_before_the_first_case_is_kept(house: House, end: int, found: list[tuple[Why, int]]) -> None:
    """Only an error of the host may be another one the second time."""
    house.does(a={"verdicts": {}, "code": end, "error": "it does not\nbuild"})
    code, night = house.run(cell("a"))
    assert (code, runs(night)) == (1 if end == 1 else 3, found)
    assert night.results[0].runs[0].error.startswith("it does not")


def test_a_process_that_is_killed_runs_again_at_most_twice(house: House) -> None:
    house.does(a={"verdicts": GOOD, "kill": True})
    code, night = house.run(cell("a"))
    assert (code, runs(night)) == (3, [(Why.PLAN, None)] * 3)
    assert night.results[0].runs[0].error == "the run was ended by SIGKILL"


def test_a_new_failure_is_repeated_for_its_rate(house: House) -> None:
    house.does(a={"verdicts": GOOD})
    house.run(cell("a"))
    house.does(a={"verdicts": GOOD | {"test_a::y": "FAIL"}, "later": {"test_a::y": ["FAIL", "PASS"]}})
    code, night = house.run(cell("a"))
    assert code == 1
    assert [why for why, _ in runs(night)] == [Why.PLAN, *[Why.RATE] * 10]
    plan, *rates = [cases_of(house, run) for run in night.results[0].runs]
    assert [[case["id"] for case in cases] for cases in rates] == [["test_a::y"]] * 10
    assert [cases[0]["seed"] == plan[0]["seed"] for cases in rates] == [True] * 5 + [False] * 5
    (change,) = night.changes
    assert (change.kind, change.case) == ("broken", "test_a::y")
    assert change.rate.endswith(" of 10")
    _, third = house.run(cell("a"))
    assert [why for why, _ in runs(third)] == [Why.PLAN], "it was bad in the last night, too"


def test_after_the_deadline_nothing_starts_and_what_runs_is_ended(house: House) -> None:
    house.does(a={"verdicts": GOOD, "stay": True}, b={"verdicts": GOOD})
    code, night = house.run(cell("a"), cell("b"), deadline_s=2.0)
    assert (code, runs(night, 0), runs(night, 1)) == (3, [(Why.PLAN, 130)], [])
    assert "deadline" in night.results[0].runs[0].error
    assert night.ended
    house.does(a={"verdicts": GOOD}, b={"verdicts": GOOD})
    code, night = house.run(limits=Limits(deadline_s=DEADLINE_S))
    assert (code, runs(night, 0), runs(night, 1)) == (0, [(Why.PLAN, 130), (Why.PLAN, 0)], [(Why.PLAN, 0)])


def test_a_cell_that_cannot_end_in_time_does_not_start(house: House) -> None:
    house.does(a={"verdicts": GOOD}, b={"verdicts": GOOD})
    code, _ = house.run(cell("a", expected_s=600.0), cell("b", expected_s=1.0), deadline_s=DEADLINE_S)
    assert code == 3
    assert house.started() == ["b"]


def test_a_finished_night_is_not_repeated(house: House) -> None:
    house.does(a={"verdicts": GOOD})
    _, night = house.run(cell("a"))
    code, again = house.run()
    assert (code, again.results) == (0, night.results)
    assert house.started() == ["a"]


def test_only_the_chosen_cells_continue(house: House) -> None:
    house.does(a={"verdicts": GOOD}, b={"verdicts": GOOD})
    house.run(cell("a"), cell("b"), limits=Limits(only=["b-cell"]))
    assert house.started() == ["b"]


def test_there_is_no_night_to_continue(house: House) -> None:
    with pytest.raises(UsageError, match="no night to continue"):
        house.run()


PARENT = """
import signal, sys
from pathlib import Path
for number in (signal.SIGINT, signal.SIGTERM):  # as harness.cli does
    signal.signal(number, signal.default_int_handler)
sys.path.insert(0, {here!r})
from test_nightly import House, cell
from harness.commands import children
children.PROGRAM = (sys.executable, {top!r} + "/stand_in.py")
cells = [cell("a"), cell("b"), cell("c")]
house = House(Path({top!r}))
if sys.argv[1].startswith("tcp:"):
    from test_nightly import Lab
    Lab(house, sys.argv[1], None, []).run(*cells)
else:
    house.run(*([] if sys.argv[1] == "resume" else cells))
"""


@contextmanager
def night_of_its_own(house: House, what: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a night in a process of its own, and kill it at the end."""
    script = PARENT.format(here=str(Path(__file__).parent), top=str(house.top))
    with subprocess.Popen([sys.executable, "-c", script, what], stderr=subprocess.DEVNULL) as parent:
        try:
            yield parent
        finally:
            parent.kill()


def wait_for_pid(house: House, run: str) -> int:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        for path in house.nights.glob(f"latest/cells/{run}/pid"):
            if text := path.read_text():
                return int(text)
        assert time.monotonic() < deadline, f"{run} does not run"
        time.sleep(0.02)


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, f"{pid} is alive"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_night_continues(house: House, number: int) -> None:
    """It is interrupted twice. What was finished is neither lost nor repeated, and no process is left."""
    house.does(a={"verdicts": GOOD}, b={"verdicts": GOOD, "stay": True}, c={"verdicts": GOOD})
    for what, run in (("start", "b-cell/1"), ("resume", "b-cell/2")):
        with night_of_its_own(house, what) as parent:
            pid = wait_for_pid(house, run)
            os.kill(parent.pid, number)
            parent.wait(DEADLINE_S)
            wait_until_gone(pid)
    night = load_night(house.nights / "latest")
    assert night.ended is None
    assert [runs(night, index) for index in range(3)] == [[(Why.PLAN, 0)], [(Why.PLAN, None)] * 2, []]
    house.does(a={"verdicts": GOOD}, b={"verdicts": GOOD}, c={"verdicts": GOOD})
    code, night = house.run()
    assert code == 0
    assert runs(night, 1) == [(Why.PLAN, None), (Why.PLAN, None), (Why.PLAN, 0)]
    assert house.started() == ["a", "b", "b", "b", "c"]


def test_two_processes_do_not_run_one_night(house: House) -> None:
    house.does(a={"verdicts": GOOD, "stay": True})
    with night_of_its_own(house, "start"):
        house.does(a={"verdicts": GOOD}, b={"verdicts": GOOD, "stay": True}, c={"verdicts": GOOD})
        wait_for_pid(house, "*/1")
        with pytest.raises(UsageError, match="another process runs this night"):
            house.run()


def test_the_record_names_every_cell_before_the_first_runs(house: House) -> None:
    house.does()
    with begun(house.nights, new_night(Path("/plan.yaml"), [cell("a")], None)) as running:
        assert load_night(house.nights / "latest").cells == [cell("a")]
        assert running.directory == (house.nights / "latest").resolve()


def test_cells_run_beside_each_other_if_processors_and_memory_allow(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.does(a={"verdicts": GOOD}, b={"verdicts": GOOD}, c={"verdicts": GOOD})
    jobs = [nightly_local.Job(cell(tree), Why.PLAN) for tree in "abc"]
    need = 2 * nightly_local.machine_mib(jobs[0])  # each has two cases, so two machines
    for processors, memory, fit in [(2, 100 * need, 1), (16, 100 * need, 3), (16, 2 * need, 2), (16, 1, 1)]:
        monkeypatch.setattr(nightly_local, "processors", lambda processors=processors: processors)
        monkeypatch.setattr(nightly_local, "default_jobs", lambda processors=processors: min(2 * processors, 8))
        runner = LocalRunner(Children(), CaseList([]), memory)
        running: list[nightly_local.Ticket] = []
        for job in jobs:
            if runner.host_for(job, running) is not None:
                running.append(nightly_local.Ticket(job, 0, house.top))
        assert len(running) == fit, (processors, memory)
    assert free_memory_mib() > 0


def test_a_ref_is_pinned_once_for_all_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    def pinned(kernel: str | None, emit: object) -> str | None:
        asked.append(kernel)
        if kernel == "gone@main":
            raise HarnessError("no such repository")
        return f"{kernel}={'0' * 40}" if kernel else None

    monkeypatch.setattr(nightly_run, "pinned_kernel", pinned)
    notes: list[object] = []
    cells = [cell("linux@main"), cell("linux@main"), cell("gone@main"), cell("x").model_copy(update={"kernel": None})]
    found = [each.kernel for each in pin(cells, notes.append)]
    assert found == [f"linux@main={'0' * 40}"] * 2 + ["gone@main", None]
    assert asked == ["linux@main", "gone@main", None]
    assert notes == [Note("gone@main: no such repository")]


RELEASE = """
from harness.commands import nightly_worker
nightly_worker.PROGRAM = ({python!r}, {stand_in!r})
"""


CONNECT = "distributed.comm.timeouts.connect"
"""How long Dask's client tries to reconnect."""


@dataclass
class Lab:
    """A Dask scheduler with two workers, on 127.0.0.1."""

    house: House
    address: str
    scheduler: subprocess.Popen[bytes] | None
    workers: list[subprocess.Popen[bytes]]

    def run(self, *cells: Cell, limits: Limits | None = None) -> tuple[int, Night]:
        """Run a night on the workers."""
        new = begun(self.house.nights, new_night(Path("/plan.yaml"), cells, None))
        with new as running, DaskRunner(self.address, CaseList([])) as runner:
            code = run_night(running, runner, limits or Limits(), silent)
        return code, load_night(running.directory)

    def wait_for_child(self, tree: str) -> tuple[int, int]:
        """Wait until the run of a tree is started. Return its process and that of its worker."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            for path in self.house.top.glob(f"pid-{tree}-*"):
                if text := path.read_text():
                    return int(path.name.rpartition("-")[2]), int(text)
            assert time.monotonic() < deadline, f"{tree} does not run"
            time.sleep(0.02)


@pytest.fixture
def lab(house: House) -> Iterator[Lab]:
    distributed = pytest.importorskip("distributed")
    release = house.top / "release.py"
    release.write_text(RELEASE.format(python=sys.executable, stand_in=str(house.top / "stand_in.py")))
    dask = [sys.executable, "-m", "dask"]
    file = house.top / "scheduler.json"
    local = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file)]
    where = {**os.environ, "TMPDIR": str(house.top), "DASK_DISTRIBUTED__WORKER__DAEMON": "False"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = [subprocess.Popen([*dask, "scheduler", *local, "--port", "0"], env=where, **quiet)]
    worker = [*dask, "worker", *local, "--no-nanny", "--nthreads", "1", "--resources", "memory=3000"]
    try:
        for _ in range(2):
            started.append(subprocess.Popen([*worker, "--preload", str(release)], env=where, **quiet))
        with distributed.Client(scheduler_file=str(file), timeout=DEADLINE_S, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=DEADLINE_S)
            address = client.scheduler.address
        yield Lab(house, address, *started[:1], started[1:])
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_a_lost_worker_is_a_lost_run_and_the_cell_runs_again_elsewhere(lab: Lab) -> None:
    """One worker is killed in the middle of a cell. Nothing is lost, and nothing runs twice at the same time."""
    lab.house.does(a={"verdicts": GOOD}, b={"verdicts": GOOD, "stay": True}, c={"verdicts": GOOD})

    def kill_worker() -> None:
        child, worker = lab.wait_for_child("b")
        os.kill(worker, signal.SIGKILL)
        wait_until_gone(child)
        (lab.house.top / "released").touch()

    with ThreadPoolExecutor() as threads:
        killed = threads.submit(kill_worker)
        code, night = lab.run(cell("a"), cell("b"), cell("c"))
        killed.result()
    assert code == 0
    lost, again = night.results[1].runs
    assert (lost.exit_code, lost.error) == (None, f"the worker {lost.host} was lost")
    assert (again.exit_code, again.why) == (0, Why.PLAN)
    assert again.host not in ("", lost.host)
    assert [len(result.runs) for result in night.results] == [1, 2, 1]
    assert sorted(lab.house.started()) == ["a", "b", "b", "c"]
    assert not (lab.house.top / "twice").exists()
    assert [case["id"] for case in cases_of(lab.house, again)] == ["test_a::x", "test_a::y"]
    assert (lab.house.nights / "latest" / again.directory / "output.txt").read_text().startswith("waiting\n")


def test_after_the_deadline_the_runs_on_workers_are_ended(lab: Lab) -> None:
    lab.house.does(a={"verdicts": GOOD, "stay": True}, b={"verdicts": GOOD, "stay": True})
    code, night = lab.run(cell("a"), cell("b"), limits=Limits(deadline_s=4.0))
    assert (code, runs(night, 0), runs(night, 1)) == (3, [(Why.PLAN, 130)], [(Why.PLAN, 130)])
    assert [case["id"] for case in cases_of(lab.house, night.results[0].runs[0])] == ["test_a::x"]
    for tree in "ab":
        wait_until_gone(lab.wait_for_child(tree)[0])


def test_the_runs_on_workers_end_with_the_engine(lab: Lab) -> None:
    """The engine is killed: the workers stay, and nothing runs on them."""
    lab.house.does(a={"verdicts": GOOD, "stay": True}, b={"verdicts": GOOD, "stay": True}, c={"verdicts": GOOD})
    with night_of_its_own(lab.house, lab.address) as parent:
        children = [lab.wait_for_child(tree)[0] for tree in "ab"]
        parent.kill()
        for child in children:
            wait_until_gone(child)
    assert [worker.poll() for worker in lab.workers] == [None, None]


def test_a_lost_scheduler_ends_the_night_and_what_runs(lab: Lab) -> None:
    """The night can be continued. The workers end their runs."""
    dask = pytest.importorskip("dask")
    lab.house.does(a={"verdicts": GOOD, "stay": True}, b={"verdicts": GOOD, "stay": True})

    def kill_scheduler() -> list[int]:
        children = [lab.wait_for_child(tree)[0] for tree in "ab"]
        assert lab.scheduler
        lab.scheduler.kill()
        return children

    with ThreadPoolExecutor() as threads:
        killed = threads.submit(kill_scheduler)
        with pytest.raises(HarnessError, match="was lost: "), dask.config.set({CONNECT: "2s"}):
            lab.run(cell("a"), cell("b"))
    for child in killed.result():
        wait_until_gone(child)
    assert load_night(lab.house.nights / "latest").ended is None


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(nightly_dask, "CONNECT_S", 0.5)
    with (
        pytest.raises(HarnessError, match=r"--scheduler tcp://127\.0\.0\.1:9: "),
        DaskRunner("tcp://127.0.0.1:9", CaseList([])),
    ):
        pass


def test_the_results_of_a_worker_are_checked(tmp_path: Path) -> None:
    made = tmp_path / "made"
    (made / "machine-1").mkdir(parents=True)
    (made / "report.json").write_text("{}")
    (made / "machine-1" / "trace").write_bytes(os.urandom(4096))
    (made / "machine-1" / "nvme.img").write_bytes(b"0" * 4096)
    archive, note = pack(made)
    whole = RemoteRun(0, archive, hashlib.sha256(archive).hexdigest(), note)
    unpack(whole, tmp_path / "whole")
    assert {
        str(path.relative_to(tmp_path / "whole")) for path in (tmp_path / "whole").rglob("*") if path.is_file()
    } == {
        "report.json",
        "machine-1/trace",
    }
    small, note = pack(made, most=2048)
    assert "left out" in note
    unpack(RemoteRun(0, small, hashlib.sha256(small).hexdigest()), tmp_path / "small")
    assert [path.name for path in (tmp_path / "small").iterdir()] == ["report.json"]
    with pytest.raises(HarnessError, match="have more than 0 MiB"):
        pack(made, most=16)
    with pytest.raises(HarnessError, match="damaged on their way"):
        unpack(replace(whole, archive=archive[:-1]), tmp_path / "damaged")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as evil:
        evil.add(made / "report.json", "../evil")
    data = out.getvalue()
    with pytest.raises(HarnessError, match="hold what they must not"):
        unpack(RemoteRun(0, data, hashlib.sha256(data).hexdigest()), tmp_path / "evil-target")
    assert not (tmp_path / "evil").exists()
