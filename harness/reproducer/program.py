# SPDX-License-Identifier: GPL-2.0-only
"""Compile a reproducer, and make a root file system of which it is the only program."""

import re
from pathlib import Path

from harness.config import Architecture
from harness.errors import HarnessError, UsageError
from harness.host import process
from harness.host.packages import install_line, require

CFLAGS = ("-static", "-O2", "-Wall", "-Wextra")
INIT = "init"
"""The program in the root of its file system."""
DIRECTORIES = ("dev", "proc", "sys", "tmp", "kernel")
"""Where the program mounts."""
COMPILE_S = 120
QUOTED = 20
"""Lines of a compiler's output that an error quotes."""
_SYNTAX = re.compile(r"\b(error|undefined reference)\b")


def compile_program(source: Path, program: Path, arch: Architecture) -> None:
    """Compile a C file with the host's compiler. UsageError if it is not C; HarnessError without a static libc."""
    if not source.is_file():
        raise UsageError(f"{source}: no such file")
    command: list[str | Path] = [require(arch.tool("gcc")), *CFLAGS, "-o", program, source]
    try:
        process.check(command, cwd=program.parent, timeout_s=COMPILE_S, quoted=QUOTED)
    except HarnessError as error:
        if _SYNTAX.search(str(error)):
            raise UsageError(f"{source} does not compile:\n{error}") from None
        error.hint = error.hint or install_line(["gcc", "libc.a"])
        raise


def make_root(program: Path, image: Path) -> None:
    """Write an erofs image with the program as ``/init``, and nothing else."""
    root = image.parent / "root"
    for name in DIRECTORIES:
        (root / name).mkdir(parents=True)
    (root / INIT).write_bytes(program.read_bytes())
    for path in (root, *root.iterdir()):
        path.chmod(0o755)
    process.check(
        [require("mkfs.erofs"), "-T0", "-x-1", "--all-root", "--quiet", image, root], cwd=image.parent, timeout_s=60
    )
