# SPDX-License-Identifier: GPL-2.0-only
"""Compile Python to the byte code of the guest's interpreter, which runs on the host for it."""

from pathlib import Path

from harness.host import process

_COMPILE_S = 300
_QUOTED = 8
"""Lines of a failed program that the error quotes."""


def compile_all(root: Path, *options: str | Path) -> None:
    """Run compileall with ``options``, by the interpreter in the unpacked root file system ``root``.

    The guest never compares byte code with its source. Raises HarnessError."""
    libraries = next(root.glob("usr/lib/*-linux-gnu"))
    loader = next((root / "usr/lib64").iterdir())
    python = (loader, "--library-path", libraries, root / "usr/bin/python3.13", "-S")
    process.check(
        [*python, "-m", "compileall", "-q", "-f", "--invalidation-mode=unchecked-hash", *options],
        cwd=root,
        timeout_s=_COMPILE_S,
        env=process.environment(PYTHONHOME=str(root / "usr"), PYTHONHASHSEED="0", PYTHONDONTWRITEBYTECODE="1"),
        quoted=_QUOTED,
    )
