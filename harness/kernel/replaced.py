# SPDX-License-Identifier: GPL-2.0-only
"""A finished build with some modules replaced: a build directory made of links, which KERNEL= takes as any other."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from harness.errors import KernelError
from harness.host.files import disk_full_reported
from harness.kernel.modules import image as modules


def make(build_dir: Path, instead: Mapping[str, Path], directory: Path) -> None:
    """Make ``directory`` show ``build_dir``, with copies of other modules for those of these names (as lsmod has them).

    Raises KernelError if the build has no such module."""
    places = {modules.name_of(path): path for path in modules.listed(build_dir)}
    if unknown := sorted(instead.keys() - places.keys()):
        raise KernelError(f"{build_dir} has no module {', '.join(unknown)}")
    with disk_full_reported():
        _link(build_dir, directory, {places[name]: path for name, path in instead.items()})


def _link(original: Path, copy: Path, instead: Mapping[str, Path]) -> None:
    """Links to all there is in ``original``, but for what ``instead`` names by its relative path; what leads to that is
    a directory of its own."""
    copy.mkdir(parents=True)
    for entry in original.iterdir():
        inside = {rest: path for name, path in instead.items() if (rest := _below(name, entry.name)) is not None}
        if "" in inside:
            shutil.copyfile(inside[""], copy / entry.name)
        elif inside:
            _link(entry, copy / entry.name, inside)
        else:
            (copy / entry.name).symlink_to(entry)


def _below(path: str, name: str) -> str | None:
    first, _, rest = path.partition("/")
    return rest if first == name else None
