# SPDX-License-Identifier: GPL-2.0-only
"""Kill a process that has a device, a dma-buf, or a mapping of a dma-buf open. The kernel closes them."""

import os
import select
import signal
import traceback
from collections.abc import Callable
from typing import NoReturn

from .dmabuf import DmaBuf
from .iommufd import Iommufd
from .poll import wait_value
from .resource import Resource
from .vfio import open_cdev

READY_SECONDS = 10.0
EXIT_SECONDS = 10.0


def kill_after(bdf: str, feature: int, payload: bytes, closes: list[str]) -> None:
    """Fork a process that opens the device, exports ``payload`` and maps it into the device's address space.

    The process closes ``closes`` (of ``buffer``, ``device``, ``iommufd``) in that order, and is killed with the rest
    open. RuntimeError if it fails before that. Raises Stuck if the kernel does not finish its exit.
    """

    def work() -> None:
        iommufd = Iommufd()
        space = iommufd.ioas()
        device = open_cdev(bdf, iommufd, space)
        buffer = device.export(feature, payload)
        space.map_file(buffer, 0, buffer.size())
        opened: dict[str, Resource] = {"buffer": buffer, "device": device, "iommufd": iommufd}
        for name in closes:
            opened[name].close()
        os.kill(os.getpid(), signal.SIGKILL)

    child = _fork(work)
    try:
        _reap(child)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise


class ImporterProcess(Resource):
    """A process that has ``dmabuf`` mapped for the device at ``bdf``, which it opened. ``close`` kills it.

    RuntimeError if it fails to map. ``close`` raises Stuck if the kernel does not finish its exit.
    """

    def __init__(self, bdf: str, dmabuf: DmaBuf) -> None:
        super().__init__()
        result, ready = os.pipe()

        def work() -> None:
            iommufd = Iommufd()
            space = iommufd.ioas()
            device = open_cdev(bdf, iommufd, space)
            space.map_file(dmabuf, 0, dmabuf.size())
            os.write(ready, device.bdf.encode())
            while True:
                signal.pause()

        self._child = _fork(work)
        os.close(ready)
        self._undo.callback(self._kill)
        try:
            done, _, _ = select.select([result], [], [], READY_SECONDS)
            if not done or not os.read(result, 1):
                raise RuntimeError("the importing process failed; its traceback is on the agent's stderr")
        finally:
            os.close(result)

    def _kill(self) -> None:
        os.kill(self._child, signal.SIGKILL)
        _reap(self._child)


def _fork(work: Callable[[], None]) -> int:
    """Run ``work`` in a new process. Returns its id."""
    child = os.fork()
    if not child:
        _run(work)
    return child


def _run(work: Callable[[], None]) -> NoReturn:
    """Run the child. os._exit() skips Python's cleanup, which would close the parent's resources."""
    try:
        work()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _reap(child: int) -> None:
    """Wait for the end of a killed process. RuntimeError if something else ended it."""
    status = wait_value(lambda: _exit_status(child), EXIT_SECONDS, "exit of a killed process")
    if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
        raise RuntimeError("the process with an open device failed; its traceback is on the agent's stderr")


def _exit_status(child: int) -> int | None:
    """Reap the process. Returns its wait status; None while it runs."""
    reaped, status = os.waitpid(child, os.WNOHANG)
    return status if reaped else None
