# SPDX-License-Identifier: GPL-2.0-only
"""Locate the directories: the data of the checkout or of the wheel, the user's cache, the results of runs."""

import os
from pathlib import Path

import platformdirs

from harness.errors import HarnessError

PACKAGE = Path(__file__).resolve().parent
INSTALLED = (PACKAGE / "data").is_dir()
"""Whether the harness was installed from a wheel: the wheel has a copy of the data (pyproject.toml). There is no
Makefile then, and the data may be read-only."""
TOP = PACKAGE / "data" if INSTALLED else PACKAGE.parent
"""The root of the data: of the checkout, or of the wheel's copy."""
VM_CONFIGS = TOP / "vm-configs"
GUEST_IMAGES = TOP / "guest-images"
VM_CASES = TOP / "tests" / "vm"


def name_in_checkout(path: Path) -> Path:
    """Return the path relative to a checkout, for a file of the data or of the package.

    Keys of the cache contain it, so a wheel and a checkout share their entries.
    """
    return path.relative_to(TOP if path.is_relative_to(TOP) else PACKAGE.parent)


def cache_dir() -> Path:
    """Return the root of the cache, and create it: ``VFIO_HARNESS_CACHE``, or the user's cache directory.

    It is safe to delete at any time. Raises HarnessError if it cannot be written.
    """
    root = os.environ.get("VFIO_HARNESS_CACHE")
    path = Path(root) if root else platformdirs.user_cache_path("vfio-harness")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HarnessError(f"{path}: {error.strerror}", hint="set VFIO_HARNESS_CACHE to another directory") from None
    if not os.access(path, os.W_OK):
        raise HarnessError(f"{path}: cannot be written", hint="set VFIO_HARNESS_CACHE to another directory")
    return path


def results_dir() -> Path:
    """Return the parent of the run directories: ``VFIO_HARNESS_RESULTS``, or ``results/`` in the current directory."""
    return Path(os.environ.get("VFIO_HARNESS_RESULTS", "results")).absolute()


def require_writable(directory: Path) -> None:
    """Raise HarnessError if ``directory`` can be neither written nor created: a run then ends before it builds."""
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise HarnessError(f"{directory}: cannot be written", hint="set VFIO_HARNESS_RESULTS to another directory")


def bugs_dir() -> Path:
    """Return the directory of the bug catalogue: ``VFIO_HARNESS_BUGS``, or ``vm-configs/bugs``.

    The variable is for reports that are not public yet.
    """
    return Path(os.environ.get("VFIO_HARNESS_BUGS", VM_CONFIGS / "bugs")).absolute()
