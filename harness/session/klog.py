# SPDX-License-Identifier: GPL-2.0-only
"""Handle on the kernel's log."""

from typing import cast

from harness.session.handle import Handle


class KernelLog(Handle):
    """The guest kernel's log, from the time at which the handle was made."""

    def read(self) -> list[str]:
        """Return the messages since the last call, without level and time."""
        return cast(list[str], self._call("read"))
