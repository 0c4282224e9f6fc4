# SPDX-License-Identifier: GPL-2.0-only
"""Objects that the agent has open in the kernel, and how they are closed."""

from collections.abc import Iterable
from contextlib import ExitStack
from typing import TypeVar

from .kernel import close_file

_live: list["Resource"] = []
R = TypeVar("R", bound="Resource")


class Resource:
    """An object to close. A subclass pushes a callback on ``self._undo`` for each thing that it acquires.

    If a constructor fails half way, the object stays on the list of live resources, and ``close_all`` closes it.
    """

    def __init__(self) -> None:
        self._undo = ExitStack()
        _live.append(self)

    def close(self) -> None:
        """Release everything, last acquired first. A second close does nothing. Raises the kernel's errno."""
        if self in _live:
            _live.remove(self)
        self._undo.close()

    def _own(self, part: R) -> R:
        """Make this resource close ``part``, which lives as long."""
        _live.remove(part)
        self._undo.callback(part.close)
        return part


class File(Resource):
    """An open file; owns its fd. ``KIND``: what it is, in an error of its close."""

    KIND = "file"

    def __init__(self, fd: int) -> None:
        super().__init__()
        self.fd = fd
        self._undo.callback(close_file, fd, self.KIND)


def close_all(keep: Iterable[Resource] = ()) -> list[str]:
    """Close every resource except those in ``keep``, newest first. Returns the errors."""
    kept = set(map(id, keep))
    failures = []
    for resource in reversed([r for r in _live if id(r) not in kept]):
        try:
            resource.close()
        except Exception as exc:  # pyverbs raises its own classes; the other resources must be closed in any case
            failures.append(f"{type(resource).__name__}: {exc}")
    return failures
