# SPDX-License-Identifier: GPL-2.0-only
"""What the agent holds open in the kernel, and how all of it is given back."""

from collections.abc import Iterable
from contextlib import ExitStack
from typing import TypeVar

_live: list["Resource"] = []
R = TypeVar("R", bound="Resource")


class Resource:
    """Something to give back: subclasses push what undoes them on ``self._undo`` as they acquire it.

    A constructor that fails half way leaves the half on the list, where ``close_all`` finds it.
    """

    def __init__(self) -> None:
        self._undo = ExitStack()
        _live.append(self)

    def close(self) -> None:
        """Give everything back, last acquired first. Closing twice is closing once. Raises the kernel's errno."""
        if self in _live:
            _live.remove(self)
        self._undo.close()

    def _own(self, part: R) -> R:
        """Make ``part`` end with this resource, and live as long."""
        _live.remove(part)
        self._undo.callback(part.close)
        return part


def close_all(keep: Iterable[Resource] = ()) -> list[str]:
    """Close every resource, newest first, but those in ``keep``. Returns what went wrong; [] is a clean guest."""
    kept = set(map(id, keep))
    failures = []
    for resource in reversed([r for r in _live if id(r) not in kept]):
        try:
            resource.close()
        except Exception as exc:  # pyverbs raises its own kinds; the rest must be closed whatever it is
            failures.append(f"{type(resource).__name__}: {exc}")
    return failures
