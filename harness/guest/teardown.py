# SPDX-License-Identifier: GPL-2.0-only
"""A process that leaves the kernel to close what it has open: a device, a dma-buf of it, and a mapping of that."""

import os
import signal
import traceback

from .iommufd import Iommufd
from .poll import wait_for
from .resource import Resource
from .vfio import open_cdev

EXIT_SECONDS = 10.0


def kill_after(bdf: str, feature: int, payload: bytes, closes: list[str]) -> None:
    """In a process of its own: open the device, export ``payload``, map it into the device's address space, close
    ``closes`` (of ``buffer``, ``device``, ``iommufd``) in that order, and be killed with the rest open.

    RuntimeError if it did not get that far.
    """
    child = os.fork()
    if not child:
        _die(bdf, feature, payload, closes)
    status = [0]
    try:
        wait_for(lambda: _gone(child, status), EXIT_SECONDS, "exit of a killed process")
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    if os.waitstatus_to_exitcode(status[0]) != -signal.SIGKILL:
        raise RuntimeError("the process with a device open failed; its traceback is on the agent's stderr")


def _gone(child: int, status: list[int]) -> bool:
    done, status[0] = os.waitpid(child, os.WNOHANG)
    return bool(done)


def _die(bdf: str, feature: int, payload: bytes, closes: list[str]) -> None:
    """Never returns. What the parent has open stays open, for this end skips all of Python's."""
    try:
        iommufd = Iommufd()
        space = iommufd.ioas()
        device = open_cdev(bdf, iommufd, space)
        buffer = device.export(feature, payload)
        space.map_file(buffer, 0, buffer.size())
        held: dict[str, Resource] = {"buffer": buffer, "device": device, "iommufd": iommufd}
        for name in closes:
            held[name].close()
        os.kill(os.getpid(), signal.SIGKILL)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)
