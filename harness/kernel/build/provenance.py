# SPDX-License-Identifier: GPL-2.0-only
"""Keep a build's configuration, log and time beside the bootable kernel: the next build overwrites them."""

from pathlib import Path

from harness.config import Model
from harness.host.files import write_atomically
from harness.kernel.build import kbuild
from harness.kernel.model import Build

TIME = "harness-build.json"
"""The file of a build directory that says when make last ran, and for how long."""
_CONFIG = "kernel.config"
_LOG = "kernel-build.log"
_KEPT = {_CONFIG: ".config", _LOG: kbuild.LOG, TIME: TIME}
"""The file of a build directory from which each file is copied."""


class BuildTime(Model):
    """The content of ``harness-build.json``."""

    started: str
    """ISO 8601, UTC."""
    duration_s: float


def keep(build_dir: Path, entry: Path) -> Build:
    """Copy what ``entry`` lacks from the build directory; return the copies. The caller holds the build's lock.

    A user's build directory has only a ``.config``."""
    for name, original in _KEPT.items():
        if not (entry / name).exists() and (build_dir / original).is_file():
            write_atomically(entry / name, (build_dir / original).read_bytes())
    log, time = entry / _LOG, entry / TIME
    took = BuildTime.model_validate_json(time.read_bytes()) if time.exists() else None
    return Build(
        config=entry / _CONFIG,
        started=took.started if took else None,
        duration_s=took.duration_s if took else None,
        log=log if log.exists() else None,
    )
