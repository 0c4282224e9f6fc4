# SPDX-License-Identifier: GPL-2.0-only
"""The cost of exports, maps and revokes in instructions, and how it grows with ranges, importers and buffers.

A program counts them in a guest whose TSC counts instructions (guest-images/counts). So the counts are the same on any
host. What matters is the slope: doubling the ranges may double a cost, and must not quadruple it.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from harness import paths
from harness.reproducer import runtime

SOURCE = paths.GUEST_IMAGES / "counts" / "counts.c"
NAME = "counts"
TIMEOUT_S = 400
STEEP = 1.25
"""A slope above this is not linear. That of n log n is 1.18 from 100 to 1000; linear costs measure 0.98 to 1.02."""
_LINE = re.compile(r"# count (?P<what>[a-z-]+) (?P<number>\d+) (?P<instructions>\d+)$")


@dataclass(frozen=True)
class Cost:
    """What one call costs, by the number of its ranges, of its importers or of its buffers."""

    what: str
    """``export-of-ranges``, ``revoke-of-importers``..."""
    counts: dict[int, int]
    """Instructions by number."""

    @property
    def slope(self) -> float:
        """Return the exponent of growth between the two largest numbers: 0 constant, 1 linear, 2 quadratic.

        The cost of the smallest number is left out, so that a large constant hides nothing.
        """
        least, *_, before, last = sorted(self.counts)
        base = self.counts[least]
        grown = [max(1, self.counts[number] - base) for number in (before, last)]
        return math.log(grown[1] / grown[0]) / math.log(last / before)

    @property
    def steep(self) -> bool:
        """Whether the cost grows faster than n log n."""
        return self.slope > STEEP


def source() -> str:
    """Return the program as one C file."""
    text = SOURCE.read_text()
    body = text.partition("*/\n")[2].strip("\n")
    chosen = runtime.choose(body)
    before, after = runtime.split(chosen)
    includes = sorted({*chosen.includes, "#include <dirent.h>", "#include <sys/resource.h>"})
    head = ["#define _GNU_SOURCE", *includes, "", f'#define NAME "{NAME}"', f"#define TIMEOUT_S {TIMEOUT_S}", ""]
    return "\n".join(["// SPDX-License-Identifier: GPL-2.0-only", *head, before, "", body, "", after, ""])


def costs(lines: Iterable[str]) -> list[Cost]:
    """Read what the program printed."""
    found: dict[str, dict[int, int]] = {}
    for match in filter(None, map(_LINE.match, lines)):
        found.setdefault(match["what"], {})[int(match["number"])] = int(match["instructions"])
    return [Cost(what, counts) for what, counts in found.items()]


def table(found: Iterable[Cost]) -> str:
    """Return a line for each cost: the instructions for each number, and the slope."""
    rows = list(found)
    numbers = sorted({number for row in rows for number in row.counts})
    head = f"{'instructions':22}" + "".join(f"{number:>14,}" for number in numbers) + "   slope"
    return "\n".join(
        [
            head,
            *(
                f"{row.what:22}"
                + "".join(f"{row.counts.get(number, 0):14,}" for number in numbers)
                + f"{row.slope:8.2f}{' steep' if row.steep else ''}"
                for row in rows
            ),
        ]
    )
