# SPDX-License-Identifier: GPL-2.0-only
"""Kill a process that has a device, a dma-buf of it, and a mapping of the dma-buf open. The kernel closes them."""

import os
import signal
import traceback

from .iommufd import Iommufd
from .poll import wait_value
from .resource import Resource
from .vfio import open_cdev

EXIT_SECONDS = 10.0


def kill_after(bdf: str, feature: int, payload: bytes, closes: list[str]) -> None:
    """Fork a process that opens the device, exports ``payload`` and maps it into the device's address space.

    The process closes ``closes`` (of ``buffer``, ``device``, ``iommufd``) in that order, and is killed with the rest
    open. RuntimeError if it fails before that. Raises Stuck if the kernel does not finish its exit.
    """
    child = os.fork()
    if not child:
        _die(bdf, feature, payload, closes)
    try:
        status = wait_value(lambda: _exit_status(child), EXIT_SECONDS, "exit of a killed process")
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
        raise RuntimeError("the process with an open device failed; its traceback is on the agent's stderr")


def _exit_status(child: int) -> int | None:
    """Reap the process. Returns its wait status; None while it runs."""
    reaped, status = os.waitpid(child, os.WNOHANG)
    return status if reaped else None


def _die(bdf: str, feature: int, payload: bytes, closes: list[str]) -> None:
    """Run the child. Never returns: os._exit() skips Python's cleanup, which would close the parent's resources."""
    try:
        iommufd = Iommufd()
        space = iommufd.ioas()
        device = open_cdev(bdf, iommufd, space)
        buffer = device.export(feature, payload)
        space.map_file(buffer, 0, buffer.size())
        opened: dict[str, Resource] = {"buffer": buffer, "device": device, "iommufd": iommufd}
        for name in closes:
            opened[name].close()
        os.kill(os.getpid(), signal.SIGKILL)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)
