# SPDX-License-Identifier: GPL-2.0-only
"""Shares the cases of a run among several hosts: ``--shard I/N`` runs one part of N."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from harness.errors import UsageError
from harness.report.record import load

UNKNOWN_S = 1.0
"""The assumed duration of a case if none is known, in seconds."""


def parse_shard(text: str) -> tuple[int, int]:
    """Read ``I/N``. Raises UsageError unless 1 <= I <= N."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    index, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= index <= count:
        raise UsageError(f"--shard {text}: not a part such as 2/3: I/N with I from 1 to N")
    return index, count


def last_durations(results: Path) -> dict[str, float]:
    """Return how long each case of the latest run took, in seconds, by id; empty if there is no such run."""
    try:
        return {case.id: case.duration_s for case in load(results / "latest").cases}
    except UsageError:
        return {}


def shard(ids: Sequence[str], text: str, durations: Mapping[str, float]) -> list[int]:
    """Return the indices of the cases of shard ``text``, in their order.

    Equal input gives equal shards, and each case is in exactly one. The longest case goes first, to the shard that has
    the least to do. A case of unknown duration counts as the median.

    Raises UsageError if the shard has no case.
    """
    index, count = parse_shard(text)
    usual = median(durations.values()) if durations else UNKNOWN_S
    seconds = [durations.get(name, usual) for name in ids]
    loads = [0.0] * count
    mine = []
    for case in sorted(range(len(ids)), key=lambda case: (-seconds[case], ids[case])):
        least = min(range(count), key=lambda number: (loads[number], number))
        loads[least] += max(seconds[case], 1e-3)  # a case of no duration is a case too
        if least == index - 1:
            mine.append(case)
    if not mine:
        raise UsageError(f"--shard {text}: the run has {len(ids)} cases, and none is in this shard", hint="use fewer")
    return sorted(mine)
