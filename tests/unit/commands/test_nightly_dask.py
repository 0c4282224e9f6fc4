# SPDX-License-Identifier: GPL-2.0-only
"""A night on the workers of a Dask scheduler, of which some are lost."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from processes import wait_until_gone
from stand_in import DEADLINE_S, GOOD, StandIn, cases_of, cell, night_of_its_own, runs

from harness.cli import cli
from harness.commands import nightly as nightly_command
from harness.commands import nightly_dask
from harness.commands.nightly_cells import CaseList
from harness.commands.nightly_dask import DaskRunner
from harness.commands.nightly_run import Limits, begun, new_night, run_night
from harness.commands.nightly_worker import RemoteRun, pack, unpack
from harness.errors import HarnessError, UsageError
from harness.nightly.outcomes import load_night
from harness.nightly.record import Cell, Night, Why
from harness.progress import silent

RELEASE = """
from harness.commands import nightly_worker
nightly_worker.PROGRAM = ({python!r}, {stand_in!r})
"""


CONNECT = "distributed.comm.timeouts.connect"
"""How long Dask's client tries to reconnect."""


@dataclass
class Lab:
    """A Dask scheduler with two workers, on 127.0.0.1."""

    stand_in: StandIn
    address: str
    scheduler: subprocess.Popen[bytes] | None
    workers: list[subprocess.Popen[bytes]]

    def run(self, *cells: Cell, limits: Limits | None = None) -> tuple[int, Night]:
        """Run a night on the workers."""
        new = begun(self.stand_in.nights, new_night(Path("/plan.yaml"), cells, None))
        with new as running, DaskRunner(self.address, CaseList([])) as runner:
            code = run_night(running, runner, limits or Limits(), silent)
        return code, load_night(running.directory)

    def wait_for_child(self, tree: str) -> tuple[int, int]:
        """Wait until the run of a tree is started. Return its process and that of its worker."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            for path in self.stand_in.top.glob(f"pid-{tree}-*"):
                if text := path.read_text():
                    return int(path.name.rpartition("-")[2]), int(text)
            assert time.monotonic() < deadline, f"{tree} does not run"
            time.sleep(0.02)


@pytest.fixture
def lab(stand_in: StandIn) -> Iterator[Lab]:
    distributed = pytest.importorskip("distributed")
    release = stand_in.top / "release.py"
    release.write_text(RELEASE.format(python=sys.executable, stand_in=str(stand_in.top / "stand_in.py")))
    dask = [sys.executable, "-m", "dask"]
    file = stand_in.top / "scheduler.json"
    local = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file)]
    where = {**os.environ, "TMPDIR": str(stand_in.top), "DASK_DISTRIBUTED__WORKER__DAEMON": "False"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = [subprocess.Popen([*dask, "scheduler", *local, "--port", "0"], env=where, **quiet)]
    worker = [*dask, "worker", *local, "--no-nanny", "--nthreads", "1", "--resources", "memory=3000"]
    try:
        for _ in range(2):
            started.append(subprocess.Popen([*worker, "--preload", str(release)], env=where, **quiet))
        with distributed.Client(scheduler_file=str(file), timeout=DEADLINE_S, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=DEADLINE_S)
            address = client.scheduler.address
        yield Lab(stand_in, address, *started[:1], started[1:])
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_a_lost_worker_is_a_lost_run_and_the_cell_runs_again_elsewhere(lab: Lab) -> None:
    """One worker is killed in the middle of a cell. Nothing is lost, and nothing runs twice at the same time."""
    lab.stand_in.does(a={"verdicts": GOOD}, b={"verdicts": GOOD, "stay": True}, c={"verdicts": GOOD})

    def kill_worker() -> None:
        child, worker = lab.wait_for_child("b")
        os.kill(worker, signal.SIGKILL)
        wait_until_gone(child, DEADLINE_S)
        (lab.stand_in.top / "released").touch()

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
    assert sorted(lab.stand_in.started()) == ["a", "b", "b", "c"]
    assert not (lab.stand_in.top / "twice").exists()
    assert [case["id"] for case in cases_of(lab.stand_in, again)] == ["test_a::x", "test_a::y"]
    assert (lab.stand_in.nights / "latest" / again.directory / "output.txt").read_text().startswith("waiting\n")


def test_after_the_deadline_the_runs_on_workers_are_ended(lab: Lab) -> None:
    lab.stand_in.does(a={"verdicts": GOOD, "stay": True}, b={"verdicts": GOOD, "stay": True})
    code, night = lab.run(cell("a"), cell("b"), limits=Limits(deadline_s=4.0))
    assert (code, runs(night, 0), runs(night, 1)) == (3, [(Why.PLAN, 130)], [(Why.PLAN, 130)])
    assert [case["id"] for case in cases_of(lab.stand_in, night.results[0].runs[0])] == ["test_a::x"]
    for tree in "ab":
        wait_until_gone(lab.wait_for_child(tree)[0], DEADLINE_S)


def test_the_runs_on_workers_end_with_the_engine(lab: Lab) -> None:
    """The engine is killed: the workers stay, and nothing runs on them."""
    lab.stand_in.does(a={"verdicts": GOOD, "stay": True}, b={"verdicts": GOOD, "stay": True}, c={"verdicts": GOOD})
    with night_of_its_own(lab.stand_in, lab.address) as parent:
        children = [lab.wait_for_child(tree)[0] for tree in "ab"]
        parent.kill()
        for child in children:
            wait_until_gone(child, DEADLINE_S)
    assert [worker.poll() for worker in lab.workers] == [None, None]


def test_a_lost_scheduler_ends_the_night_and_what_runs(lab: Lab) -> None:
    """The night can be continued. The workers end their runs."""
    dask = pytest.importorskip("dask")
    lab.stand_in.does(a={"verdicts": GOOD, "stay": True}, b={"verdicts": GOOD, "stay": True})

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
        wait_until_gone(child, DEADLINE_S)
    assert load_night(lab.stand_in.nights / "latest").ended is None


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(nightly_dask, "CONNECT_S", 0.5)
    with (
        pytest.raises(HarnessError, match=r"--scheduler tcp://127\.0\.0\.1:9: "),
        DaskRunner("tcp://127.0.0.1:9", CaseList([])),
    ):
        pass


def test_a_wrong_scheduler_leaves_no_night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setenv("VFIO_HARNESS_RESULTS", str(tmp_path))
    monkeypatch.setattr(nightly_command, "collect", list)
    monkeypatch.setattr(nightly_command, "expand", lambda *_: [cell("a")])
    with pytest.raises(UsageError, match="--scheduler foo: missing port number"):
        CliRunner().invoke(cli, ["nightly", "--scheduler", "foo"], catch_exceptions=False)
    assert [*tmp_path.iterdir()] == []


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
