# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness bench``: the time from start to the guest agent's first reply, against the kernel's shortest boot.

Both boot the same machine through the same code, in alternation, on one clock that starts before QEMU.
*Floor*: init is a static program that powers off; the clock stops when QEMU reports the shutdown.
*Ready*: modules are loaded, SSH is connected, the agent is uploaded and started, and its first reply has arrived.
"""

import json
import os
import statistics
import tempfile
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import click

from harness import paths, vm
from harness.errors import GuestCrashed
from harness.progress import Emit, phase
from harness.report import Terminal
from harness.run.options import Options, given, takes_options
from harness.run.setup import Setup
from harness.session import Session

ROUNDS = 5
LIMIT = 2.0
"""The highest accepted ``ratio``."""
_FLOOR_INIT = "init=/sbin/vfio-harness-floor"
_FLOOR_TIMEOUT_S = 120.0


@click.command()
@takes_options("bench", from_make=True)
def bench(**values: Any) -> None:
    """Measure the time from boot to the agent's first reply, next to the kernel's shortest boot.

    Writes the result to results/bench.json as well.
    """
    options = Options(**given(values))
    with Terminal(options.make_variables()) as terminal:
        result = measure(Setup.prepare(options, terminal.emit), terminal.emit)
    result.write(paths.results_dir() / "bench.json")
    click.echo(result)


@dataclass(frozen=True)
class Result:
    """The times of every round, in seconds.

    A boot to ready keeps two CPUs busy, the floor one: on a host with other work the ratio says little.
    """

    floor: list[float]
    ready: list[float]
    steps: list[dict[str, float]]
    """When each step of a boot to ready was done, in seconds since QEMU's start."""
    load: float
    """The host's one-minute load average before the first round."""

    @property
    def ratio(self) -> float:
        """The median of ready divided by the median of floor."""
        return statistics.median(self.ready) / statistics.median(self.floor)

    def record(self) -> dict[str, object]:
        """Return the content of ``bench.json``."""
        return {
            "boot_ready_s": round(statistics.median(self.ready), 3),
            "floor_s": round(statistics.median(self.floor), 3),
            "ratio": round(self.ratio, 3),
            "steps_s": {step: round(seconds, 3) for step, seconds in self.median_steps()},
            "limit": LIMIT,
            "load": round(self.load, 2),
            "rounds": {
                "boot_ready_s": [round(s, 3) for s in self.ready],
                "floor_s": [round(s, 3) for s in self.floor],
            },
        }

    def median_steps(self) -> list[tuple[str, float]]:
        """Return the steps of a boot in the order in which they are done, with the median of their times."""
        times = {step: [steps[step] for steps in self.steps if step in steps] for step in chain(*self.steps)}
        return sorted(((step, statistics.median(each)) for step, each in times.items()), key=itemgetter(1))

    def write(self, path: Path) -> None:
        """Write ``bench.json``."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.record(), indent=2) + "\n")

    def __str__(self) -> str:
        floor = statistics.median(self.floor)
        lines = [f"{seconds:6.2f} s  {seconds / floor:5.2f}  {step}" for step, seconds in self.median_steps()]
        return "\n".join(["  since     in", "  start  floors", *lines, self.summary()])

    def summary(self) -> str:
        """Return the ratio and what it is made of, in one line."""
        ready, floor = statistics.median(self.ready), statistics.median(self.floor)
        return (
            f"agent ready {ready:.2f} s, floor {floor:.2f} s: ratio {self.ratio:.2f}, limit {LIMIT}"
            f" (medians of {len(self.ready)}, host load {self.load:.1f})"
        )


def measure(setup: Setup, emit: Emit, rounds: int = ROUNDS) -> Result:
    """Boot ``2 * rounds`` times. Raises the errors of a boot."""
    result = Result([], [], [], os.getloadavg()[0])
    with phase(emit, "bench", f"{rounds} rounds") as progress, tempfile.TemporaryDirectory() as top:
        for number in range(rounds):
            progress.progress(f"round {number + 1}", number / rounds)
            result.floor.append(_floor(setup, Path(top, f"floor-{number}")))
            took, steps = _ready(setup, Path(top, f"ready-{number}"))
            result.ready.append(took)
            result.steps.append(steps)
        progress.result = result.summary()
    return result


def _floor(setup: Setup, rundir: Path) -> float:
    boot = replace(setup.boot_files(), append=_FLOOR_INIT)
    started = time.monotonic()
    with vm.Machine(setup.machine, boot, setup.qemu, setup.accel, rundir) as machine:
        never: Future[None] = Future()
        with suppress(GuestCrashed):  # a machine reports a power-off as a crash
            machine.wait_for(never, _FLOOR_TIMEOUT_S, "the floor's power-off")
        return time.monotonic() - started


def _ready(setup: Setup, rundir: Path) -> tuple[float, dict[str, float]]:
    started = time.monotonic()
    with vm.Machine(setup.machine, setup.boot_files(), setup.qemu, setup.accel, rundir) as machine, Session(machine):
        took = time.monotonic() - started
        machine.steps.read_log(machine.console)
        return took, machine.steps.seconds
