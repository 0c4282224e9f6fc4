# SPDX-License-Identifier: GPL-2.0-only
"""Read vm-configs/kernel-path.yaml: the kernel functions that export, attach, map, revoke, un-revoke and release."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from harness import paths
from harness.config.loader import Model, load, nearest
from harness.config.releases import Releases, includes
from harness.errors import UsageError

PATH = paths.VM_CONFIGS / "kernel-path.yaml"

Functions = Annotated[list[str], Field(min_length=1)]


class KernelPath(Model):
    """The path of a range of kernel releases."""

    kernels: Releases
    files: dict[str, Functions]
    """Functions by source file, relative to the source tree. A uverbs handler goes by its method's name. ``*`` is every
    function of the file."""


class _File(Model):
    paths: list[KernelPath]


def kernel_path(release: str) -> KernelPath:
    """Return the path of a kernel release.

    Raises UsageError if the file names no range that includes the release, or is wrong."""
    for each in load(PATH, _File).paths:
        if includes(each.kernels, release):
            return each
    raise UsageError(f"{PATH}: no path for Linux {release}")


def require_functions(names: Iterable[str]) -> None:
    """Raise UsageError for a function that is on the path of no kernel."""
    known = {name for each in load(PATH, _File).paths for names in each.files.values() for name in names}
    for name in names:
        if name not in known:
            raise UsageError(f"--functions: {PATH} has no function {name!r}{nearest(name, known)}")


def profiled_objects() -> list[str]:
    """Return the object files of every path, as Kbuild's ``GCOV_PROFILE_<object>`` names them."""
    files = {name for each in load(PATH, _File).paths for name in each.files}
    return sorted(map(object_of, files))


def object_of(file: str) -> str:
    """Return the name of a source file's object, as ``GCOV_PROFILE_<object>`` takes it."""
    return f"{file.rpartition('/')[2].removesuffix('.c')}.o"
