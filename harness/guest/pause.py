# SPDX-License-Identifier: GPL-2.0-only
"""Pause one call between a check and its use, and make another call meanwhile (guest-images/importer/pause.c)."""

import errno
import importlib
import os
import threading
from collections.abc import Callable
from typing import Any

from .importer import open_node
from .kernel import ioctl
from .poll import poll
from .resource import Resource
from .uapi import importer as uapi

POINTS = {
    "attach": uapi.IMPORTER_PAUSE_ATTACH,
    "map": uapi.IMPORTER_PAUSE_MAP,
    "export": uapi.IMPORTER_PAUSE_EXPORT,
    "close": uapi.IMPORTER_PAUSE_CLOSE,
    "insert": uapi.IMPORTER_PAUSE_INSERT,
    "fill": uapi.IMPORTER_PAUSE_FILL,
    "pages": uapi.IMPORTER_PAUSE_PAGES,
    "fput": uapi.IMPORTER_PAUSE_FPUT,
    "umem": uapi.IMPORTER_PAUSE_UMEM,
    "unpin": uapi.IMPORTER_PAUSE_UNPIN,
    "unlock": uapi.IMPORTER_PAUSE_UNLOCK,
    "iova": uapi.IMPORTER_PAUSE_IOVA,
    "table": uapi.IMPORTER_PAUSE_TABLE,
    "alignment": uapi.IMPORTER_PAUSE_ALIGNMENT,
}
LIMIT_MS = uapi.IMPORTER_MAX_PAUSE_MS
JOIN_SECONDS = 15.0


class _Call(threading.Thread):
    """A call on a thread of its own. ``outcome`` is "ok" or an errno's name; ``result`` what the call opened."""

    def __init__(self, on: Any, do: str, args: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        target = importlib.import_module(f".{on}", __package__) if isinstance(on, str) else on
        self._call: Callable[[], Any] = lambda: getattr(target, do)(**args)
        self.outcome = ""
        self.result: Resource | None = None
        self.defect: Exception | None = None

    def run(self) -> None:
        try:
            result = self._call()
        except OSError as refusal:
            self.outcome = errno.errorcode.get(refusal.errno or 0, str(refusal.errno))
        except Exception as defect:
            self.defect = defect
        else:
            self.outcome = "ok"
            self.result = result if isinstance(result, Resource) else None


def interleave(
    point: str, paused: dict[str, Any], meanwhile: dict[str, Any], wait_seconds: float, call_seconds: float
) -> dict[str, Any]:
    """Pause the call ``paused`` at ``point``, a key of POINTS, and make the call ``meanwhile``. Then let both end.

    A call is given as ``on``, an object or a service, ``do`` and ``args``. ``wait_seconds``: for the pause to begin.
    ``call_seconds``: for ``meanwhile`` to end; if it does not, it ends after the pause.

    Returns ``reached``, whether the pause began; ``held``, whether it lasted until it was ended here; ``blocked``,
    whether ``meanwhile`` had not ended by then; ``outcomes`` of the two calls; and the objects that they ``opened``.
    """
    first, second = _Call(**paused), _Call(**meanwhile)
    node = open_node()
    try:
        ioctl(node, uapi.IMPORTER_PAUSE, uapi.PauseRequest(point=POINTS[point], limit_ms=LIMIT_MS))
        first.start()
        reached = poll(lambda: _state(node) != uapi.IMPORTER_PAUSE_ARMED, wait_seconds)
        second.start()
        second.join(call_seconds)
        blocked = second.is_alive()
        held = _state(node) == uapi.IMPORTER_PAUSE_ON
        ioctl(node, uapi.IMPORTER_RESUME)
    finally:
        os.close(node)
    for call in (first, second):
        call.join(JOIN_SECONDS)
        if call.defect:
            raise call.defect
    outcomes = [call.outcome for call in (first, second)]
    opened = [call.result for call in (first, second)]
    return {"reached": reached, "held": held, "blocked": blocked, "outcomes": outcomes, "opened": opened}


def _state(node: int) -> int:
    return ioctl(node, uapi.IMPORTER_PAUSE_STATE)
