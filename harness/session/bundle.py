# SPDX-License-Identifier: GPL-2.0-only
"""Pack the agent as a zip application: ``harness/guest`` as the package ``agent``, and a ``__main__.py``."""

import io
import zipfile
from importlib import resources
from importlib.resources.abc import Traversable

START = "from agent.rpc import main\n\nmain()\n"


def pack() -> bytes:
    """Return the zip. The same sources give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py"), START)
        _add(archive, resources.files("harness") / "guest", "agent")
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, folder: Traversable, name: str) -> None:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        path = f"{name}/{entry.name}"
        if entry.is_dir():
            _add(archive, entry, path)
        elif entry.name.endswith(".py"):
            archive.writestr(zipfile.ZipInfo(path), entry.read_bytes(), zipfile.ZIP_DEFLATED)
