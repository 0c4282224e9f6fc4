# SPDX-License-Identifier: GPL-2.0-only
"""The log of what a device sees and does: one JSON object a line, with the host's monotonic clock.

``t`` is CLOCK_MONOTONIC in seconds, the clock of the harness and of every process on the host. The witness
``harness/witness/device_log.py`` reads it. Each line is in the file before the access is answered.
"""

import json
import time
from pathlib import Path
from typing import Any


class Log:
    """The log of one device."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="ascii", buffering=1)

    def write(self, event: str, **fields: Any) -> None:
        """Append an event."""
        self._file.write(json.dumps({"t": round(time.monotonic(), 6), "event": event, **fields}) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
