# SPDX-License-Identifier: GPL-2.0-only
"""Compile Python to the byte code of the guest's interpreter.

The interpreter runs on the host, so it is that of an image of the host's architecture. Byte code has no architecture,
and all images have the same version of Python.
"""

from pathlib import Path

from harness.host import process
from harness.host.packages import require

_COMPILE_S = 300
_EXTRACT_S = 120
_QUOTED = 8
"""Lines of a failed program that the error quotes."""


def compile_all(root: Path, *options: str | Path) -> None:
    """Run compileall with ``options``, by the interpreter in ``root``, a root file system that this host can run.

    The guest never compares byte code with its source. Raises HarnessError."""
    libraries = next(root.glob("usr/lib/*-linux-gnu"))
    loader = next(root.glob("usr/lib*/ld-linux*"))
    python = (loader, "--library-path", libraries, root / "usr/bin/python3.13", "-S")
    process.check(
        [*python, "-m", "compileall", "-q", "-f", "--invalidation-mode=unchecked-hash", *options],
        cwd=root,
        timeout_s=_COMPILE_S,
        env=process.environment(PYTHONHOME=str(root / "usr"), PYTHONHASHSEED="0", PYTHONDONTWRITEBYTECODE="1"),
        quoted=_QUOTED,
    )


def extract(image: Path, root: Path) -> None:
    """Extract an image's root file system to the new directory ``root``. Raises HarnessError or MissingPrerequisite."""
    command = (require("fsck.erofs"), f"--extract={root}", "--no-preserve", image)
    process.check(command, cwd=root.parent, timeout_s=_EXTRACT_S)
