# SPDX-License-Identifier: GPL-2.0-only
"""Make plain steps of those that hold other calls: requests to a forked process, and two calls that are interleaved."""

import errno
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from harness.errors import UsageError
from harness.reproducer.recorded import ObjectRef, decode

Step: TypeAlias = Mapping[str, Any]

PROCESS = "process"
"""The key of a step in a forked process: the process."""
CALLS = "calls"
"""The key of a step that makes other calls: their steps."""
ENDED = "ESRCH"
"""The errno of a call in a process that ends meanwhile."""
FIRST_IN_PROCESS = 1 << 32
"""The numbers of objects that forked processes make begin here. In the recording they may be those of others."""


def expand(steps: Sequence[Step]) -> list[Step]:
    """Return the steps, each call of which is one that a row of the table can name."""
    steps = _with_iovas(steps)
    processes = _Processes()
    found = []
    for step in steps:
        if "in a forked process" in step:
            continue  # its request follows
        match step.get("call"):
            case [ObjectRef(), "ask"]:
                found.append(processes.request(step))
            case ["pause", "interleave"]:
                found.append(_interleaved(step))
            case ["repeat", "call"]:
                found.append(_repeated(step))
            case _:
                found.append(step)
    return found


def _with_iovas(steps: Sequence[Step]) -> list[Step]:
    """Add the IOVAs that the agent chose, since later calls may have them as numbers."""
    windows = {step["call"][0]: step["ok"] for step in steps if step.get("call", [""])[1:] == ["iova"] and "ok" in step}
    found: list[Step] = []
    for step in steps:
        result = step.get("ok")
        if step.get("call", [""])[1:] in (["map_file"], ["copy"], ["map"]) and isinstance(result, int):
            found.append({**step, "args": {**step["args"], "iova": result}})
        elif isinstance(result, ObjectRef) and isinstance(windows.get(result), int):
            found.append({**step, "args": {"iova": windows[result], **step["args"]}})
        else:
            found.append(step)
    return found


class _Processes:
    """The requests to all processes."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, int], int] = {}
        """The number here of each object, by process and number there."""

    def request(self, step: Step) -> Step:
        """Return the call that a request asks for, with what its reply says."""
        process: ObjectRef = step["call"][0]
        asked = json.loads(step["args"]["line"], object_hook=decode)
        on = ObjectRef(asked["on"]) if isinstance(asked["on"], int) else asked["on"]
        there = {key: value for key, value in step.items() if key == "thread"}
        call = self._here(process, {"call": [on, asked["do"]], "args": asked["args"]})
        return {**call, **there, PROCESS: process, **self._reply(process, step.get("ok"))}

    def _reply(self, process: ObjectRef, line: bytes | None) -> Step:
        if not line:
            return {"errno": ENDED, "of": "ask"}
        reply = json.loads(line, object_hook=decode)
        if "errno" in reply:
            return {"errno": errno.errorcode.get(reply["errno"], "EINVAL"), "of": reply.get("call", "")}
        if "refused" in reply:
            return {"refused": reply["refused"]}
        result = reply.get("ok")
        if isinstance(result, ObjectRef):
            here = FIRST_IN_PROCESS + len(self._made)
            result = ObjectRef(self._made.setdefault((process.number, result.number), here))
        return {"ok": result}

    def _here(self, process: ObjectRef, value: Any) -> Any:
        """Return the same with the numbers of objects here."""
        if isinstance(value, ObjectRef):
            return ObjectRef(self._made.get((process.number, value.number), value.number))
        if isinstance(value, Mapping):
            return {key: self._here(process, each) for key, each in value.items()}
        if isinstance(value, list):
            return [self._here(process, each) for each in value]
        return value


def _interleaved(step: Step) -> Step:
    """Add the two calls. The step's result is their outcome as one number (OUTCOME() of 93-interleave.c)."""
    result = step.get("ok")
    if not isinstance(result, Mapping):
        return step
    calls = []
    for name, outcome, opened in zip(("paused", "meanwhile"), result["outcomes"], result["opened"], strict=True):
        asked = step["args"][name]
        ended = {"ok": opened} if outcome == "ok" else {"errno": outcome, "of": asked["do"]}
        calls.append({"call": [asked["on"], asked["do"]], "args": asked["args"], **ended})
    first, second = (getattr(errno, outcome, 0) for outcome in result["outcomes"])
    return {**step, CALLS: calls, "ok": bool(result["blocked"]) << 24 | first << 12 | second}


def _repeated(step: Step) -> Step:
    """Add the call. UsageError if it went sometimes so and sometimes otherwise."""
    outcomes = step.get("ok")
    if not isinstance(outcomes, list):
        return step
    if len(outcomes) != 1:
        raise UsageError(f"no C program can repeat a call that gave {outcomes}")
    (outcome,) = outcomes
    ended = {"errno": errno.errorcode.get(outcome, "EINVAL"), "of": step["args"]["do"]} if outcome else {"ok": None}
    call = {"call": [step["args"]["on"], step["args"]["do"]], "args": step["args"]["args"], **ended}
    kept = {key: value for key, value in step.items() if key != "ok"}
    return {**kept, **ended, CALLS: [call]}
