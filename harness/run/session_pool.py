# SPDX-License-Identifier: GPL-2.0-only
"""Boots sessions for the cases of one process."""

import logging
import time
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path

from harness.errors import BlindWitness, GuestLost, HarnessError
from harness.run.setup import Setup
from harness.session import Session, device_check

log = logging.getLogger(__name__)


class SessionPool:
    """Boots a session on demand and keeps it for the next cases until it is discarded.

    ``directory`` receives one subdirectory for each machine, with its command line, console, trace and QEMU's stderr.
    Pools of several processes may share it.
    """

    def __init__(self, setup: Setup, directory: Path) -> None:
        self._setup = setup
        self._directory = directory
        self._stack = ExitStack()
        self._boot_error: HarnessError | GuestLost | None = None
        self.current: Session | None = None

    def get(self) -> Session:
        """Return the running session, or boot one. Raises the errors of a boot.

        If a vfio-user device is faulty, that is the error: it says nothing about the kernel that does not boot.
        """
        if self._boot_error:
            error, self._boot_error = self._boot_error, None
            raise error
        if self.current and self.current.spent:
            self.discard()
        if self.current is None:
            directory = self._new_directory()
            log.debug("boot a machine in %s", directory)
            machine = self._setup.machine_in(directory)
            with ExitStack() as stack:
                began = time.monotonic()
                stack.enter_context(machine)
                try:
                    self.current = stack.enter_context(self._setup.session_on(machine))
                except GuestLost as error:
                    if found := device_check.fault(machine, began):
                        raise BlindWitness(f"{found}; the boot had found: {error}") from None
                    raise
                self._stack = stack.pop_all()
        return self.current

    def warm(self) -> None:
        """Boot ahead of time. The next ``get`` re-raises a boot error."""
        try:
            self.get()
        except (HarnessError, GuestLost) as error:
            self._boot_error = error

    def discard(self) -> None:
        """End the session, so that the next case gets a fresh machine."""
        if self.current:
            log.debug("discard the machine in %s", self.current.machine.trace_path.parent)
        self.current = None
        self._stack.close()

    def _new_directory(self) -> Path:
        for number in count(1):
            path = self._directory / f"machine-{number}"
            try:
                with suppress(FileExistsError):
                    path.mkdir()
                    break
            except OSError as error:
                raise HarnessError(f"{path}: {error.strerror}") from None
        return path
