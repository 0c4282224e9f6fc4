# SPDX-License-Identifier: GPL-2.0-only
"""Processes that keep a file open until they are killed."""

import subprocess
from typing import Protocol

from .resource import Resource

EXIT_SECONDS = 25.0
"""Seconds for a killed process to end. Its exit closes the file, and that may wait for an importer."""


class HasFd(Protocol):
    """An object with a file descriptor."""

    fd: int


class Holder(Resource):
    """A process that has a duplicate of one fd open, and nothing else of the agent."""

    def __init__(self, of: HasFd) -> None:
        super().__init__()
        null = subprocess.DEVNULL
        self._process = subprocess.Popen(["sleep", "infinity"], pass_fds=[of.fd], stdin=null, stdout=null, stderr=null)
        self._undo.callback(self._kill)

    def _kill(self) -> None:
        """Kill it, and wait until the kernel has closed what it had open."""
        self._process.kill()
        self._process.wait(EXIT_SECONDS)
