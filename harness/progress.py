# SPDX-License-Identifier: GPL-2.0-only
"""A run is a stream of typed events; front ends (terminal, record) only render them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class PhaseStarted:
    """A phase that may last over two seconds begins, e.g. ``kernel build``."""

    name: str
    detail: str = ""


@dataclass(frozen=True)
class PhaseProgress:
    """How far the running phase is; ``fraction`` in 0..1, or None when unknown."""

    name: str
    detail: str
    fraction: float | None = None


@dataclass(frozen=True)
class PhaseDone:
    """The phase ended well after ``seconds``; a phase that fails raises instead."""

    name: str
    seconds: float
    detail: str = ""


@dataclass(frozen=True)
class Note:
    """One line worth showing at any verbosity, e.g. which accelerator was chosen and why."""

    text: str


Event = PhaseStarted | PhaseProgress | PhaseDone | Note
Emit = Callable[[Event], None]


def silent(event: Event) -> None:
    """The front end that shows nothing."""


class Phase:
    """Handle given to the body of ``phase``: report progress, and what to say when done."""

    def __init__(self, emit: Emit, name: str) -> None:
        self._emit = emit
        self._name = name
        self.result = ""

    def progress(self, detail: str, fraction: float | None = None) -> None:
        """Say how far the phase is."""
        self._emit(PhaseProgress(self._name, detail, fraction))


@contextmanager
def phase(emit: Emit, name: str, detail: str = "") -> Iterator[Phase]:
    """Bracket a phase with its events."""
    emit(PhaseStarted(name, detail))
    start = time.monotonic()
    handle = Phase(emit, name)
    yield handle
    emit(PhaseDone(name, time.monotonic() - start, handle.result))
