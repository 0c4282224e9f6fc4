# SPDX-License-Identifier: GPL-2.0-only
"""Pack the agent as a zip application: ``harness/guest`` as the package ``agent``, and a ``__main__``.

It holds byte code: under emulation the guest would compile for most of a second, at each boot.
"""

import hashlib
import io
import tempfile
import zipfile
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from harness.host.files import disk_full_reported, write_atomically
from harness.image import bytecode

START = "from agent.rpc import main\n\nmain()\n"


def pack(image: Path, tools: Path | None = None) -> Path:
    """Return the zip for the guest whose root file system is ``image``, from the image's directory or made now.

    ``tools``: an image whose interpreter this host can run; None if it can run that of ``image``.
    Raises HarnessError or MissingPrerequisite."""
    files = {"__main__.py": START.encode(), **_sources(resources.files("harness") / "guest", "agent")}
    sha = hashlib.sha256()
    for name, text in files.items():
        sha.update(f"{name}\0{len(text)}\0".encode() + text)
    packed = image.with_name(f"agent-{sha.hexdigest()[:16]}.zip")
    if not packed.exists():
        with disk_full_reported(), tempfile.TemporaryDirectory(prefix="vfio-harness-") as scratch:
            write_atomically(packed, _zip(_compiled(files, tools or image, Path(scratch))))
    return packed


def _sources(folder: Traversable, name: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        path = f"{name}/{entry.name}"
        if entry.is_dir():
            found |= _sources(entry, path)
        elif entry.name.endswith(".py"):
            found[path] = entry.read_bytes()
    return found


def _compiled(files: dict[str, bytes], image: Path, scratch: Path) -> dict[str, bytes]:
    """Return each module's byte code, by its name in the zip."""
    root, top = scratch / "root", scratch / "agent"
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    bytecode.extract(image, root)
    bytecode.compile_all(root, "-b", "-s", top, top)
    return {f"{name}c": (top / f"{name}c").read_bytes() for name in files}


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
