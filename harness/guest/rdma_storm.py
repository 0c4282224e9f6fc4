# SPDX-License-Identifier: GPL-2.0-only
"""RDMA WRITEs without a pause, on a thread of their own: an importer at its full rate."""

import threading
from typing import Any

import pyverbs.enums as e
from pyverbs.cq import CQ
from pyverbs.mr import MR
from pyverbs.wr import SGE

from .poll import Stuck, wait_for
from .resource import Resource
from .verbs import ACCESS, COMPLETION_SECONDS, MrWindow, Rxe, post, wait_completion

QUEUED = 32
"""Work requests that are queued at once."""


class Storm(Resource):
    """Writes one dword of an MR again and again, until a write is refused or ``close``."""

    def __init__(self, rxe: Rxe, window: MrWindow, offset: int, value: int) -> None:
        super().__init__()
        completions = CQ(rxe.context, 2 * QUEUED)
        self._undo.callback(completions.close)
        pairs = rxe.connected_pair(completions, QUEUED)
        for pair in pairs:
            self._undo.callback(pair.close)
        self._begin(rxe, pairs[0], completions, (window.address(offset), window.rkey), value)

    def _begin(self, rxe: Rxe, pair: Any, completions: Any, target: tuple[int, int], value: int) -> None:
        """Write ``value`` from a connected queue pair with room for QUEUED requests. ``target``: address and rkey."""
        self._source = MR(rxe.domain, 4, ACCESS)
        self._undo.callback(self._source.close)
        self._source.write(value.to_bytes(4, "little"), 4)
        self._pair, self._completions, self._target = pair, completions, target
        self.written = 0
        self.status = ""
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._undo.callback(self._end)

    def wait_written(self, count: int) -> None:
        """Wait until ``count`` writes have completed, or one was refused."""
        wait_for(lambda: self.written >= count or bool(self.status), COMPLETION_SECONDS, f"{count} RDMA writes")

    def outcome(self) -> dict[str, Any]:
        """Wait until a write is refused. Returns its status, and the number of writes that completed before it."""
        self._thread.join(COMPLETION_SECONDS)
        if self._error:
            raise self._error
        if self._thread.is_alive():
            self._end()
        return {"written": self.written, "status": self.status}

    def _end(self) -> None:
        self._stop.set()
        self._thread.join(COMPLETION_SECONDS)
        if self._thread.is_alive():
            raise Stuck("RDMA writes in a loop did not end")

    def _run(self) -> None:
        try:
            while not self._stop.is_set() and not self.status:
                self._write_queue()
        except BaseException as error:
            self._error = error
            self.status = "error"

    def _write_queue(self) -> None:
        for _ in range(QUEUED):
            source = SGE(self._source.buf, 4, self._source.lkey)
            post(self._pair, e.IBV_WR_RDMA_WRITE, source, *self._target)
        for _ in range(QUEUED):
            if status := wait_completion(self._completions):
                self.status = status
                return
            self.written += 1
