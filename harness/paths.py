# SPDX-License-Identifier: GPL-2.0-only
"""Where things are: the checkout's data directories, the user's cache, a run's results."""

import os
from pathlib import Path

import platformdirs

TOP = Path(__file__).resolve().parent.parent
VM_CONFIGS = TOP / "vm-configs"
GUEST_IMAGES = TOP / "guest-images"
VM_CASES = TOP / "tests" / "vm"


def cache_dir() -> Path:
    """The cache's root, ``VFIO_HARNESS_CACHE`` or the user's cache directory; safe to delete at any time."""
    root = os.environ.get("VFIO_HARNESS_CACHE")
    path = Path(root) if root else platformdirs.user_cache_path("vfio-harness")
    path.mkdir(parents=True, exist_ok=True)
    return path


def results_dir() -> Path:
    """Where run directories go: ``VFIO_HARNESS_RESULTS`` or ``results/`` in the current directory."""
    return Path(os.environ.get("VFIO_HARNESS_RESULTS", "results")).absolute()


def bugs_dir() -> Path:
    """The catalogue of bugs: ``VFIO_HARNESS_BUGS``, for reports that are not public yet, or ``vm-configs/bugs``."""
    return Path(os.environ.get("VFIO_HARNESS_BUGS", VM_CONFIGS / "bugs")).absolute()
