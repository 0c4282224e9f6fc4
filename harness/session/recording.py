# SPDX-License-Identifier: GPL-2.0-only
"""Record what a case does in the guest and what it states, in a form that a program can repeat.

Evidence has the same calls as text, which is cut. A recording has all arguments and results, and JSON holds it. It is
in the directory of the run for each case that fails (harness/reproducer makes a C program of it).
"""

import base64
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TypeAlias

from harness.errors import ImporterRefused, KernelErrno
from harness.session.wire import Ref

Step: TypeAlias = dict[str, Any]
"""One step, of one of these shapes. Objects are ``{"$object": number}``, bytes ``{"$bytes": base64}``.

``{"call": [on, do], "args": {...}}``, with one of ``ok`` (the result), ``errno`` (its name), ``refused`` (the status of
the importer's device) and ``lost``. ``thread`` is the number of its thread, if it ran beside later steps; ``{"join":
number}`` waits for that thread.
``earlier`` is set if an earlier case made the object, which is still there.
``{"check": sentence, "holds": bool, "seen": text, "rule": ...}``.
``{"expect": errno, "sentence": sentence}`` until ``{"expected": true}``: the last call between is refused.
``{"ring": "begin"}`` until ``{"ring": "end"}``: a doorbell, whose outcome the next check may judge.
``{"in the peer": [on, do]}`` and ``{"in a forked process": [on, do]}``: calls elsewhere.
``{"witness": name}``: the case asked a witness on the host.
"""
Rule = Literal["arrives", "blocked", "accepted", ""]
"""What a check states: of the last ring, of the last call, or something else."""

MOST_STEPS = 20_000
"""More are dropped: no reader of a program wants them."""


class Recording:
    """The steps of one case."""

    def __init__(self, made: Mapping[int, Step]) -> None:
        """``made``: by its number, the step that made each object of the agent, also before this case."""
        self._made = made
        self.steps: list[Step] = []

    def add(self, step: Step) -> None:
        """Add a step."""
        if len(self.steps) < MOST_STEPS:
            self.steps.append(step)

    def encode(self) -> str:
        """Return the recording as JSON, with the steps that made its objects first."""
        known = {number for step in self.steps for number in _refs(step.get("ok"))}
        earlier: dict[int, Step] = {}
        for step in self.steps:
            if step.get("call", [""])[0] != "rpc":
                self._collect(step, known, earlier)
        steps = [*({**earlier[number], "earlier": True} for number in sorted(earlier)), *self.steps]
        return json.dumps(steps, indent=1, default=encode) + "\n"

    def _collect(self, step: Step, known: set[int], earlier: dict[int, Step]) -> None:
        for number in _refs([step.get("call"), step.get("args")]):
            if number not in known and number not in earlier and (made := self._made.get(number)):
                earlier[number] = made
                self._collect(made, known, earlier)


_threads = itertools.count(1)
_thread: ContextVar[int | None] = ContextVar("thread", default=None)
"""In a thread of the case: its number."""
_recording: ContextVar[Recording | None] = ContextVar("recording", default=None)


def record(recording: Recording | None) -> None:
    """Record from now on; None ends it."""
    _recording.set(recording)


def add(step: Step) -> None:
    """Add a step to the recording, if there is one."""
    if recording := _recording.get():
        recording.add(step)


@contextmanager
def left_out() -> Iterator[None]:
    """Add nothing of the block: its calls look at what the kernel has done wrong, and no program need repeat them."""
    token = _recording.set(None)
    try:
        yield
    finally:
        _recording.reset(token)


def check(sentence: str, holds: object, seen: object = "", rule: Rule = "") -> None:
    """Add a statement of the case."""
    add({"check": sentence, "holds": bool(holds), "seen": str(seen), "rule": rule})


@contextmanager
def expect(errno: str, sentence: str) -> Iterator[None]:
    """Add that the last call of the block must be refused."""
    add({"expect": errno, "sentence": sentence})
    try:
        yield
    finally:
        add({"expected": True})


def new_thread() -> int:
    """Return the number of a new thread."""
    return next(_threads)


def in_thread(number: int) -> None:
    """Add the calls of this context as those of a thread."""
    _thread.set(number)


def join(number: int) -> None:
    """Add that the case waits for a thread."""
    add({"join": number})


@contextmanager
def ring() -> Iterator[None]:
    """Add that the block rings a doorbell."""
    add({"ring": "begin"})
    try:
        yield
    finally:
        add({"ring": "end"})


def call(key: str, on: str | Ref, do: str, args: Mapping[str, Any], *, made: dict[int, Step]) -> "OnEnd":
    """Add a call that begins. Returns a function that its end calls with the result, or with the error.

    ``key``: ``call``, or another for one that no program repeats.
    """
    step: Step = {key: [on, do], "args": dict(args)}
    if thread := _thread.get():
        step["thread"] = thread
    add(step)

    def ended(result: object, error: BaseException | None) -> None:
        step.update(_outcome(result, error))
        for number in _refs(step.get("ok")):
            made.setdefault(number, step)

    return ended


OnEnd = Callable[[object, BaseException | None], None]


def _outcome(result: object, error: BaseException | None) -> Step:
    if error is None:
        return {"ok": result}
    if isinstance(error, KernelErrno):
        return {"errno": error.name, "of": error.call}
    if isinstance(error, ImporterRefused):
        return {"refused": str(error)}
    return {"lost": type(error).__name__}


def _refs(value: object) -> Iterator[int]:
    """Yield the number of each object in a value."""
    if isinstance(value, Ref):
        yield value.number
    elif isinstance(ref := getattr(value, "ref", None), Ref):
        yield ref.number
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _refs(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _refs(each)


def encode(value: Any) -> Any:
    """Encode what JSON does not have, for ``json.dumps``."""
    if isinstance(value, bytes | bytearray):
        return {"$bytes": base64.b64encode(value).decode()}
    ref = value if isinstance(value, Ref) else getattr(value, "ref", None)
    return {"$object": ref.number} if isinstance(ref, Ref) else str(value)
