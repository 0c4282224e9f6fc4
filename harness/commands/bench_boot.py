# SPDX-License-Identifier: GPL-2.0-only
"""Measures the time from QEMU's start to the guest agent's first reply, against the kernel's shortest boot.

Both boot the same machine through the same code, in alternation, on one clock that starts before QEMU.
*Floor*: init is a static program that powers off; the clock stops when QEMU reports the shutdown.
*Ready*: modules are loaded, SSH is connected, the agent is uploaded and started, and its first reply has arrived.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from operator import itemgetter
from pathlib import Path

from harness import vm
from harness.commands.bench_figures import FLOOR, Figure
from harness.errors import GuestCrashed
from harness.progress import Emit, phase
from harness.run.setup import Setup
from harness.session import Session

ROUNDS = 5
_FLOOR_INIT = "init=/sbin/vfio-harness-floor"
_FLOOR_TIMEOUT_S = 120.0


def measure_boot(setup: Setup, emit: Emit, rounds: int = ROUNDS) -> list[Figure]:
    """Boot ``2 * rounds`` times. Returns medians. Raises the errors of a boot."""
    floors: list[float] = []
    boots: list[dict[str, float]] = []
    with phase(emit, "bench", f"boot, {rounds} rounds") as progress, tempfile.TemporaryDirectory() as top:
        for number in range(rounds):
            progress.progress(f"boot, round {number + 1}", number / rounds)
            floors.append(_floor(setup, Path(top, f"floor-{number}")))
            boots.append(_ready(setup, Path(top, f"ready-{number}")))
    return [Figure(part="boot", what=FLOOR, seconds=statistics.median(floors)), *_medians(boots)]


def _medians(boots: Sequence[dict[str, float]]) -> list[Figure]:
    times = {step: [steps[step] for steps in boots if step in steps] for step in chain(*boots)}
    medians = sorted(((step, statistics.median(each)) for step, each in times.items()), key=itemgetter(1))
    return [Figure(part="boot", what=f"until {step}", seconds=round(seconds, 3)) for step, seconds in medians]


def _floor(setup: Setup, rundir: Path) -> float:
    boot = replace(setup.boot_files(), append=_FLOOR_INIT)
    started = time.monotonic()
    with vm.Machine(setup.machine, boot, setup.qemu, setup.accel, rundir) as machine:
        never: Future[None] = Future()
        with suppress(GuestCrashed):  # a machine reports a power-off as a crash
            machine.wait_for(never, _FLOOR_TIMEOUT_S, "the floor's power-off")
        return time.monotonic() - started


def _ready(setup: Setup, rundir: Path) -> dict[str, float]:
    """Return when each step of a boot was done, in seconds since QEMU's start."""
    with vm.Machine(setup.machine, setup.boot_files(), setup.qemu, setup.accel, rundir) as machine, Session(machine):
        return machine.steps.in_order()
