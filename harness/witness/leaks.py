# SPDX-License-Identifier: GPL-2.0-only
"""Kernel memory that a case leaked, parsed from kmemleak's report. Pure functions on the guest's text."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from harness.errors import BlindWitness

MAX_LINE = 512
_HEX, _DEC = r"[0-9a-f]{1,16}", r"\d{1,20}"


@dataclass(frozen=True)
class LeakedObject:
    """One object to which kmemleak found no pointer."""

    size: int
    """In bytes."""
    task: str
    """The name of the task that allocated it."""
    frames: tuple[str, ...]
    """The allocation's call trace, innermost function first."""
    born: int | None = None
    """When it was allocated, in jiffies; None where the kernel prints its age instead."""

    def __str__(self) -> str:
        """Return one line for the evidence."""
        return f"{self.size} bytes leaked by {self.task}, allocated in {' < '.join(self.frames[:6])}"


@dataclass(frozen=True)
class KnownLeak:
    """A leak that a released kernel has, identified by its size and by functions of its call trace."""

    size: int
    """In bytes."""
    frames: frozenset[str]
    """Functions that are all in the call trace."""

    def is_seen_in(self, leak: LeakedObject) -> bool:
        """Return whether the object is of this leak."""
        return leak.size == self.size and self.frames <= set(leak.frames)


def beyond(leaks: Iterable[LeakedObject], known: KnownLeak, most: int) -> list[LeakedObject]:
    """Return the leaks that are not the known one, and those of the known one after the first ``most``."""
    others: list[LeakedObject] = []
    excused: list[LeakedObject] = []
    for leak in leaks:
        (excused if known.is_seen_in(leak) else others).append(leak)
    return [*others, *excused[most:]]


_OBJECT = re.compile(rf"unreferenced object 0x{_HEX} \(size (?P<size>{_DEC})\):")
_TASK = re.compile(rf' {{2}}comm "(?P<task>[^"]{{1,32}})", pid -?\d{{1,10}}(?:, jiffies (?P<born>{_DEC}))?')
_ALLOCATED = re.compile(r" {4}(?:\[<[0-9a-fx]{1,20}>\] )?(?P<function>[A-Za-z_][\w.]{0,100})\+0x")


def parse_kmemleak(text: str) -> list[LeakedObject]:
    """Return the objects listed in debugfs ``kmemleak`` (mm/kmemleak.c, print_unreferenced)."""
    found: list[LeakedObject] = []
    for line in (raw[:MAX_LINE] for raw in text.splitlines()):
        if row := _OBJECT.match(line):
            found.append(LeakedObject(int(row["size"]), "?", ()))
        elif found and (task := _TASK.match(line)):
            born = int(task["born"]) if task["born"] else None
            found[-1] = replace(found[-1], task=task["task"], born=born)
        elif found and (frame := _ALLOCATED.match(line)):
            found[-1] = replace(found[-1], frames=(*found[-1].frames, frame["function"]))
    return found


def parse_report(text: str) -> list[LeakedObject]:
    """Return the objects of a whole report, which is empty if there are none.

    Raises BlindWitness for a report in another layout, in which every leak would be missed.
    """
    found = parse_kmemleak(text)
    if text.strip() and not found:
        raise BlindWitness(f"blind witness, kmemleak: no object was found in its report, which begins {text[:80]!r}")
    return found
