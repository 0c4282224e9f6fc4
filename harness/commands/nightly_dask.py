# SPDX-License-Identifier: GPL-2.0-only
"""Runs the cells of a night on the workers of a Dask scheduler.

A task only starts a child process and returns its results (``nightly_worker``). The engine chooses the worker of each
run, and Dask must not move it: Dask would run a task again by itself when its worker is lost, and blame the task after
some losses. Here a lost worker is a lost run, which the record names, and the engine decides whether it runs again.
"""

import importlib
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any, Self

from harness import __version__
from harness.commands.children import ERROR, LOG, read_error
from harness.commands.nightly_cells import CaseList
from harness.commands.nightly_engine import Outcome, Ticket
from harness.commands.nightly_local import how_it_was_ended, machine_mib, machines_of
from harness.commands.nightly_worker import LEAVE_S, RemoteRun, WorkerFacts, end_run, facts, run_child, unpack
from harness.errors import HarnessError, MissingPrerequisite, UsageError
from harness.nightly.again import options_of
from harness.nightly.jobs import Job
from harness.nightly.outcomes import load_run
from harness.nightly.record import COMPLETED

CONNECT_S = 20.0
TICK_S = 0.5
AWAIT_WORKER_S = 60.0
"""How long the night waits for a worker when it has none: one that was lost may come back."""
END_S = 30.0
"""How long a run that must end may take: its machine is put away, and its results are sent."""
MEMORY, KVM = "memory", "kvm"
"""The resources that a worker states: MiB for its machines, and how many runs may use KVM at a time."""
PASSED_ON = ("QEMU", "VFIO_HARNESS_BUGS")
"""Variables of the engine that a run needs too."""


class DaskRunner:
    """Runs jobs on the workers of a scheduler. As a context manager, it ends those that still run."""

    def __init__(self, scheduler: str, cases: CaseList) -> None:
        """``scheduler``: its address, e.g. ``tcp://127.0.0.1:8786``."""
        self._address = scheduler
        self._cases = cases
        self._client: Any = None
        self._facts: dict[str, WorkerFacts] = {}
        self._runs: dict[str, _Run] = {}
        self._distrusted: set[str] = set()
        """The workers that have lost a run: the run is made again elsewhere."""
        self._changed = Event()
        self._lost = False

    def __enter__(self) -> Self:
        """Connect.

        Raises MissingPrerequisite without Dask, UsageError for an address without a port, and HarnessError if the
        scheduler does not answer or has no worker."""
        try:
            distributed = importlib.import_module("distributed")
            addressing = importlib.import_module("distributed.comm.addressing")
        except ImportError:
            hint = "pip install 'vfio-harness[dask]'"
            raise MissingPrerequisite("--scheduler needs Dask, which is not installed", hint=hint) from None
        try:  # a client that was made of a wrong address prints a traceback when it is collected
            addressing.parse_host_port(addressing.parse_address(self._address)[1])
        except ValueError as error:
            hint = "name its host and port, e.g. tcp://127.0.0.1:8786"
            raise UsageError(f"--scheduler {self._address}: {error}", hint=hint) from None
        try:
            self._client = distributed.Client(self._address, timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise HarnessError(f"--scheduler {self._address}: {error}") from None
        if not self._workers():
            hint = f"start one: dask worker {self._address} --nthreads 1 --resources 'memory=8000 kvm=1'"
            raise HarnessError(f"--scheduler {self._address}: it has no worker that states its memory", hint=hint)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._lost:  # without a scheduler the workers end their runs by themselves
                self.end([run.ticket for run in self._runs.values()])
        finally:
            self._client.close(timeout=END_S if not self._lost else TICK_S)

    def _known(self) -> dict[str, Any]:
        """Return what the scheduler knows of each worker, by address. Raises HarnessError if it does not answer."""
        try:
            return dict(self._client.scheduler_info()["workers"])
        except Exception as error:  # of any kind: the client's state depends on when the connection was lost
            self._lost = True
            hint = "vfio-harness nightly --resume continues the night"
            raise HarnessError(f"--scheduler {self._address} was lost: {error}", hint=hint) from None

    def _workers(self) -> dict[str, dict[str, float]]:
        """Return the resources of each worker that runs and states its memory, by address.

        Raises HarnessError for a worker with another version of the harness."""
        found = self._known()
        workers = {
            address: worker["resources"]
            for address, worker in found.items()
            if worker["status"] == "running" and MEMORY in worker["resources"] and address not in self._distrusted
        }
        new = [address for address in workers if address not in self._facts]
        for address, known in (self._client.run(facts, workers=new, on_error="ignore") if new else {}).items():
            if known.version != __version__:
                raise HarnessError(f"{address}: it has vfio-harness {known.version}, and this host {__version__}")
            self._facts[address] = known
        for address in [address for address in self._facts if address not in found]:
            del self._facts[address]
        return {address: resources for address, resources in workers.items() if address in self._facts}

    def host_for(self, job: Job, running: Sequence[Ticket]) -> str | None:
        """Return the address of a worker that has room for the job; None if there is none."""
        for address, resources in self._workers().items():
            runs = [run for run in self._runs.values() if run.address == address]
            left = resources[MEMORY] - sum(run.memory for run in runs)
            if len(runs) < max(1, int(resources.get(KVM, 1))) and left >= machine_mib(job):
                return address
        return None

    def wait_for_host(self, job: Job) -> bool:
        """Wait until a worker has room for the job. Return False if none has come in time."""
        deadline = time.monotonic() + AWAIT_WORKER_S
        while time.monotonic() < deadline:
            if self.host_for(job, ()) is not None:
                return True
            self._changed.wait(TICK_S)
        return False

    def start(self, ticket: Ticket, host: str) -> None:
        """Start a run on the worker ``host``."""
        job = ticket.job
        resources = self._known().get(host, {}).get("resources", {})
        machines = max(1, int(resources.get(MEMORY, 0)) // machine_mib(job))
        jobs = machines_of(job, min(self._facts[host].jobs, machines))
        memory = jobs * machine_mib(job)
        key = f"vfio-harness-{os.getpid()}-{job.cell.id}-{ticket.number + 1}-{time.time_ns()}"
        options = replace(options_of(job.cell), seed=job.seed, jobs=jobs)
        output = ticket.directory / LOG
        self._client.subscribe_topic(key, lambda event: _append(output, event))
        future = self._client.submit(
            run_child,
            key,
            self._facts[host].process,
            [job.cell.command, *options.arguments(job.cell.command)],
            self._cases.node_ids(job.cases),
            {name: os.environ[name] for name in PASSED_ON if name in os.environ},
            key=key,
            workers=[host],
            allow_other_workers=False,
            retries=0,
            pure=False,
            resources={MEMORY: memory, **({KVM: 1} if KVM in resources else {})},
        )
        future.add_done_callback(lambda done: self._changed.set())
        self._runs[key] = _Run(ticket, host, memory, future)

    def wait(self) -> list[tuple[Ticket, Outcome]]:
        """Wait for a moment. Return the runs that have ended, and those whose worker was lost."""
        self._changed.wait(TICK_S)
        self._changed.clear()
        alive = self._known()
        ended = []
        for key, run in [*self._runs.items()]:
            process = self._facts[run.address].process if run.address in self._facts else None
            if run.address not in alive or process is None:
                outcome = Outcome(None, f"the worker {run.address} was lost")
            elif run.future.done():
                outcome = run.outcome()
            else:
                continue
            if outcome.exit_code is None:
                self._distrusted.add(run.address)
            ended.append((run.ticket, outcome))
            self._forget(key)
        return ended

    def end(self, tickets: Sequence[Ticket]) -> list[tuple[Ticket, Outcome]]:
        """End these runs, and return what they have judged. One that does not answer is lost."""
        keys = [key for key, run in self._runs.items() if run.ticket in tickets]
        for key in keys:
            self._client.run(end_run, key, workers=[self._runs[key].address], on_error="ignore")
        deadline = time.monotonic() + END_S + LEAVE_S
        ended: list[tuple[Ticket, Outcome]] = []
        while any(self._runs[key].ticket in tickets for key in keys if key in self._runs):
            if time.monotonic() > deadline:
                break
            ended += self.wait()
        for key in [key for key in keys if key in self._runs]:
            run = self._runs[key]
            ended.append((run.ticket, Outcome(None, f"the worker {run.address} does not answer")))
            self._forget(key)
        return ended

    def _forget(self, key: str) -> None:
        run = self._runs.pop(key)
        self._client.unsubscribe_topic(key)
        run.future.cancel(force=True)  # so that the scheduler never starts it again


class _Run:
    """A run on a worker."""

    def __init__(self, ticket: Ticket, address: str, memory: int, future: Any) -> None:
        """``memory``: what its machines take, in MiB."""
        self.ticket = ticket
        self.address = address
        self.memory = memory
        self.future = future

    def outcome(self) -> Outcome:
        """Unpack the results of a run that has ended.

        They are on the worker, which may be lost meanwhile."""
        try:
            result: RemoteRun = self.future.result(timeout=END_S)
            unpack(result, self.ticket.directory)
        except Exception as error:  # whatever the worker raised: its run is lost, and the night goes on
            return Outcome(None, f"the worker {self.address} lost the run: {error}")
        record = load_run(self.ticket.directory)
        if result.exit_code not in COMPLETED:
            return Outcome(None, how_it_was_ended(result.exit_code), record)
        error_of_run = read_error(self.ticket.directory / ERROR)
        return Outcome(result.exit_code, str(error_of_run or "") if record is None else result.note, record)


def _append(output: Path, event: tuple[float, str]) -> None:
    """Append a part of a run's output to its file. The whole file comes with the results."""
    with output.open("a", encoding="utf-8") as out:
        out.write(event[1])
