# SPDX-License-Identifier: GPL-2.0-only
"""Make a call many times, to find what each one leaks."""

from typing import Any

from .resource import Resource


def call(on: Any, do: str, args: dict[str, Any], times: int) -> list[int]:
    """Call ``do`` of the object ``on``. Returns the different errnos, 0 for success. Closes what a call opens."""
    outcomes = set()
    for _ in range(times):
        try:
            result = getattr(on, do)(**args)
        except OSError as refusal:
            outcomes.add(refusal.errno or 0)
            continue
        outcomes.add(0)
        if isinstance(result, Resource):
            result.close()
    return sorted(outcomes)
