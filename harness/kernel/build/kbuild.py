# SPDX-License-Identifier: GPL-2.0-only
"""Run the kernel's own make: configuration, build and external modules, with progress and with errors quoted."""

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.config import ArchName, arch_of, architecture
from harness.config.kernel_path import object_of, profiled_objects
from harness.host import process
from harness.host.files import disk_full_reported, require_free_space, write_atomically
from harness.host.packages import require_build_tools
from harness.kernel.build import kconfig
from harness.kernel.build.diagnose import build_failure
from harness.kernel.build.unfinished import finished
from harness.kernel.model import has_gcov
from harness.progress import Phase

RELEASE = "include/config/kernel.release"
"""The file of a build directory that holds its release."""
LOG = "harness-build.log"
"""The file of a build directory that holds make's output."""
OPTIONS = "harness.config"
"""The file of a build directory that holds the options given to ``configure``."""

# A build step as Kbuild prints it: "  CC [M]  drivers/vfio/pci/vfio_pci_core.o".
_STEP = re.compile(r"^  ([A-Z][A-Z0-9_]*)\s+(?:\[M\]\s+)?(\S+)$")
_STEPS_FILE = "harness-steps"
TYPICAL_STEPS = 2020
"""Steps of a full build of the default kernel; a later build expects as many as the one before took."""

FULL = 1 << 20
"""With fewer bytes free than this, a failed build is the disk's fault."""

_CCACHE_DIRS = ("/usr/lib/ccache", "/usr/lib64/ccache")


def _environment() -> dict[str, str]:
    # Not CC="ccache gcc": every command line would change, so installing ccache would rebuild everything.
    wrappers = [d for d in _CCACHE_DIRS if Path(d, "gcc").exists()]
    env = process.environment(
        KBUILD_BUILD_TIMESTAMP="@0",
        KBUILD_BUILD_USER="vfio-harness",
        KBUILD_BUILD_HOST="host",
        KBUILD_BUILD_VERSION="1",
    )
    return {**env, "PATH": ":".join([*wrappers, env["PATH"]])}


def _short(target: str) -> str:
    return Path(target).name if target.startswith("/") else target


def make(args: Sequence[str], *, source: Path, what: Path, log: Path, step: Phase, expected: int | None = None) -> int:
    """Run make in ``source`` to build ``what``, write its output to ``log``, and return the number of build steps.

    ``expected``: how many steps the build takes, for the progress. Raises KernelBuildError with the first error of the
    source, or a HarnessError where the host is at fault."""
    lines: list[str] = []
    done = 0
    last = "make"

    def show_progress() -> None:
        step.progress(last, min(1.0, done / expected) if expected else None)

    # The scratch directory takes the temporary files that a killed compiler leaves.
    with disk_full_reported(), tempfile.TemporaryDirectory(prefix="vfio-harness-") as scratch, log.open("w") as out:

        def on_line(line: str) -> None:
            nonlocal done, last
            out.write(line + "\n")
            if match := _STEP.match(line):
                done += 1
                last = f"{match[1]} {_short(match[2])}"
            else:
                lines.append(line)

        status = process.run(
            # LOCALVERSION, even empty, keeps git's "+" out of the release, and git out of the build
            ["make", f"-j{os.cpu_count() or 1}", "LOCALVERSION=", *args],
            cwd=source,
            env={**_environment(), "TMPDIR": scratch},
            on_line=on_line,
            on_tick=show_progress,
        )
    if status:
        require_free_space(FULL)  # some of Kbuild's scripts fail silently on a full disk
        raise build_failure(what, lines, log)
    return done


def configure(source: Path, build_dir: Path, options: str, step: Phase, arch: ArchName) -> None:
    """Write build_dir/.config, unless it is up to date: ``options`` and what they select are on, the rest is off."""
    build_dir.mkdir(parents=True, exist_ok=True)
    wanted = build_dir / OPTIONS
    write_atomically(wanted, options)
    found = architecture(arch)
    require_build_tools(found.tool("gcc"))
    step.progress("configuring")
    args = [f"O={build_dir}", *found.make_variables, f"KCONFIG_ALLCONFIG={wanted}", "allnoconfig"]
    make(args, source=source, what=source, log=build_dir / "harness-config.log", step=step)


def build(
    source: Path, build_dir: Path, step: Phase, *, modules_only: bool = False, counted: Sequence[str] = ()
) -> None:
    """Bring the kernel and its modules up to date. ``counted``: see ``SourceTree``."""
    config = kconfig.read(build_dir / ".config")
    arch = architecture(arch_of(config))
    targets = ("modules",) if modules_only else (arch.kernel.target, "modules")
    steps = build_dir / _STEPS_FILE
    fresh = not (build_dir / "vmlinux").exists()
    expected = int(steps.read_text()) if steps.exists() else TYPICAL_STEPS
    args = [f"O={build_dir}", *arch.make_variables, *_profiled(config, counted), *targets]
    log = build_dir / LOG
    with finished(build_dir):
        done = make(args, source=source, what=source, log=log, step=step, expected=expected if fresh else None)
    if fresh:
        write_atomically(steps, str(done))


def _profiled(config: Mapping[str, str], counted: Sequence[str]) -> list[str]:
    """Ask Kbuild for gcov's instrumentation of the objects on the path and of ``counted``, if the configuration has it.

    A variable on make's command line reaches every directory (scripts/Makefile.lib, ``GCOV_PROFILE_obj.o``)."""
    if not has_gcov(config):
        return []
    objects = {*profiled_objects(), *map(object_of, counted)}
    return [f"GCOV_PROFILE_{name}=y" for name in sorted(objects)]


def build_external(build_dir: Path, source: Path, work: Path, step: Phase) -> None:
    """Build the modules of ``work`` (a directory with a Kbuild Makefile) against a built kernel."""
    arch = architecture(arch_of(kconfig.read(build_dir / ".config")))
    args = [f"O={build_dir}", *arch.make_variables, f"M={work}", "modules"]
    with finished(work):
        make(args, source=source, what=work, log=work / LOG, step=step)
