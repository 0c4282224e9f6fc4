# SPDX-License-Identifier: GPL-2.0-only
"""Say whether a change concerns modules alone. Kbuild takes seconds to find that nothing built in has changed."""

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

_TRIMMED = "TRIM_UNUSED_KSYMS"
"""With it, vmlinux exports what the modules use."""


def only_modules(changed: Iterable[str], build_dir: Path, config: Mapping[str, str]) -> bool:
    """Return whether no object of vmlinux can depend on what has changed since the build in ``build_dir``.

    ``changed``: files and directories of the source tree, as ``tree.changed_since`` lists them. A directory stands for
    any file in it, since one may be gone. Only C files in directories whose objects are all modules count: a header or
    a Makefile may concern anything.
    """
    return _TRIMMED not in config and all(_holds_modules(build_dir / folder) for folder in map(_folder, changed))


def _folder(changed: str) -> str:
    path = PurePosixPath(changed)
    return str(
        path.parent if path.suffix == ".c" else path
    )  # neither a header nor a Makefile is a directory of objects


def _holds_modules(directory: Path) -> bool:
    """Return whether the directory has objects that were compiled, all of them for modules.

    Kbuild keeps the command of each object in ``.<object>.cmd``, with the source's name if it was compiled, not linked
    (scripts/basic/fixdep.c)."""
    commands = [file.read_text(errors="replace") for file in directory.glob(".*.o.cmd")]
    compiled = [command for command in commands if "\nsource_" in command]
    return bool(compiled) and all(" -DMODULE " in command for command in compiled)
