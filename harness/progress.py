# SPDX-License-Identifier: GPL-2.0-only
"""Define the progress events of a run. The code that does the work emits them; ``report.Terminal`` prints them."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PhaseStarted:
    """A phase that may take more than two seconds starts."""

    name: str
    """The name of the phase, e.g. ``kernel build``."""
    detail: str = ""
    """What the phase works on, e.g. a kernel release."""


@dataclass(frozen=True)
class PhaseProgress:
    """The running phase reports its progress."""

    name: str
    """The name of the phase."""
    detail: str
    """What the phase does now."""
    fraction: float | None = None
    """The share that is done, 0 to 1. None if unknown."""


@dataclass(frozen=True)
class PhaseDone:
    """The phase succeeded. A phase that fails raises an exception instead."""

    name: str
    """The name of the phase."""
    seconds: float
    """How long it took."""
    detail: str = ""
    """What it produced."""
    steps: Mapping[str, float] = field(default_factory=dict)
    """When each of its steps was done, in seconds since its start."""


@dataclass(frozen=True)
class Note:
    """A line to print at any verbosity, e.g. the chosen accelerator and the reason for it."""

    text: str
    """The line, without a newline."""


Event = PhaseStarted | PhaseProgress | PhaseDone | Note
Emit = Callable[[Event], None]


def silent(event: Event) -> None:
    """Print nothing. For tests, and for commands whose output is data."""


class Phase:
    """What ``phase`` yields: the running phase reports its progress and its result through it."""

    def __init__(self, emit: Emit, name: str) -> None:
        self._emit = emit
        self._name = name
        self._started = time.monotonic()
        self.result = ""
        """The ``detail`` of the ``PhaseDone`` event. The body sets it."""
        self.steps: dict[str, float] = {}
        """The ``steps`` of the ``PhaseDone`` event."""

    def seconds(self) -> float:
        """Return the seconds since the phase started."""
        return time.monotonic() - self._started

    def done(self, step: str) -> None:
        """Note that a step of the phase is done."""
        self.steps[step] = self.seconds()

    def progress(self, detail: str, fraction: float | None = None) -> None:
        """Report progress.

        Args:
            detail: What the phase does now.
            fraction: The share that is done, 0 to 1. None if unknown.
        """
        self._emit(PhaseProgress(self._name, detail, fraction))


@contextmanager
def phase(emit: Emit, name: str, detail: str = "") -> Iterator[Phase]:
    """Emit ``PhaseStarted`` before the block and ``PhaseDone`` after it.

    If the block raises, no ``PhaseDone`` follows.
    """
    emit(PhaseStarted(name, detail))
    handle = Phase(emit, name)
    yield handle
    emit(PhaseDone(name, handle.seconds(), handle.result, handle.steps))
