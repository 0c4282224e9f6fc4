# SPDX-License-Identifier: GPL-2.0-only
"""The part of a splat that one reads first: its headline, where it happened, and the call trace."""

import re
from collections.abc import Iterable

from harness.verdict import Evidence

MOST_SPLATS = 3
MOST_LINES = 32
MAX_WIDTH = 240

_HEADLINE = re.compile(
    r"WARNING: |BUG: |KASAN|UBSAN: |Kernel panic|Oops|general protection fault|INFO: |=====|unreferenced object"
    r"|DMA-API: |watchdog: |refcount_t: |list_(?:add|del) corruption"
)
_WHERE = re.compile(r"RIP: ")
_FRAME = re.compile(r" +(?!\? )[\w.]+(?:\+0x[0-9a-f]+/0x[0-9a-f]+| \(\S+:\d+\))|\s*</?(?:TASK|IRQ|NMI)>")
"""A frame as the kernel prints it, or as scripts/decode_stacktrace.sh does: ``vfs_write (fs/read_write.c:686)``. Not
one with ``?``, which may be left over on the stack."""


def outlines(evidence: Iterable[Evidence]) -> list[list[str]]:
    """Return the outlines of the first splats of a case; of those with one headline, the first only."""
    found: dict[str, list[str]] = {}
    for item in evidence:
        if item.source == "console" and (lines := outline(item.text)):
            found.setdefault(lines[0], lines)
    return list(found.values())[:MOST_SPLATS]


def outline(text: str) -> list[str]:
    """Return the first line of a splat, its RIP and its frames; empty if ``text`` is no splat."""
    lines = [line[:MAX_WIDTH].rstrip() for line in text.splitlines()]
    headline = next((line for line in lines[:4] if _HEADLINE.search(line)), None)
    if headline is None:
        return []
    rest = lines[lines.index(headline) + 1 :]
    found = [headline, *dict.fromkeys(line for line in rest if _WHERE.match(line) or _FRAME.match(line))]
    more = len(found) - MOST_LINES
    return [*found[:MOST_LINES], f"({more} more)"] if more > 0 else found
