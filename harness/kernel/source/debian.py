# SPDX-License-Identifier: GPL-2.0-only
"""Fetch kernel sources from Debian's archive."""

import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.config import Model, load
from harness.errors import HarnessError, UsageError
from harness.host import apt, process
from harness.host.files import disk_full_reported, fresh_dir, require_free_space
from harness.kernel.cache import cache_path, locked
from harness.paths import GUEST_IMAGES
from harness.progress import Emit, Note, Phase, phase

SOURCE_ROOM = 2 << 30
"""Bytes needed to fetch a source; unpacked, it is 1.8 GiB."""
_PACKAGE = re.compile(r"linux-source-\d[\d.]*$")


class Archive(Model):
    """guest-images/kernel/debian.yaml."""

    default: str
    """The release of the pinned default kernel."""
    keyring: str
    """The file with the archive's keys."""
    suites: list[str]
    """The suites to search, as in sources.list after ``deb``."""


@dataclass(frozen=True)
class Package:
    """One source package of the archive, e.g. linux-source-7.2 at 7.2.12-1~bpo13+1."""

    name: str
    """The binary package that holds the source."""
    version: str
    """Debian's version of it."""

    @property
    def upstream(self) -> str:
        """Return the kernel's release: 7.2.12."""
        return re.split(r"[-+~]", self.version, maxsplit=1)[0]

    @property
    def dirname(self) -> str:
        """Return the name of its directory in the cache."""
        return f"{self.name}_{self.version}"


def archive() -> Archive:
    """Read debian.yaml."""
    return load(GUEST_IMAGES / "kernel" / "debian.yaml", Archive)


def _order(package: Package) -> tuple[list[int], list[int]]:
    def numbers(text: str) -> list[int]:
        return [int(n) for n in re.findall(r"\d+", text)]

    return numbers(package.upstream), numbers(package.version[len(package.upstream) :])


def select(packages: Iterable[Package], wanted: str) -> Package | None:
    """Return the newest package of the release or series ``wanted``: 7.2 finds 7.2.12, 7.2.6 only itself."""
    fits = [p for p in packages if p.upstream == wanted or p.upstream.startswith(f"{wanted}.")]
    return max(fits, key=_order, default=None)


def parse_madison(lines: Iterable[str]) -> Iterator[Package]:
    """Yield the packages in the output of ``apt-cache madison``."""
    for found in apt.parse_madison(lines):
        if _PACKAGE.match(found.name):
            yield Package(found.name, found.version)


def obtain(wanted: str | None, emit: Emit) -> tuple[Package, Path]:
    """Return the package and its unpacked source in the cache. ``wanted``: a release, or None for the pinned default.

    Raises UsageError if Debian has no such version, HarnessError if the archive cannot be reached."""
    if wanted is not None and not re.fullmatch(r"\d+(\.\d+)*", wanted):
        raise UsageError(f"KERNEL=debian:{wanted}: not a version", hint="e.g. KERNEL=debian:7.3 or KERNEL=debian:7.2.6")
    pinned = wanted or archive().default
    have = [Package(*path.name.split("_", 1)) for path in cache_path("source", ".").glob("linux-source-*_*")]
    exact = next((p for p in have if p.upstream == pinned), None)
    if exact is None:
        exact = _choose(wanted, pinned, have, emit)
    source = cache_path("source", exact.dirname)
    if not source.is_dir():
        _fetch(exact, source, emit)
    return exact, source


def _choose(wanted: str | None, pinned: str, have: list[Package], emit: Emit) -> Package:
    """Choose a package of the archive; one of the cache (``have``) if the archive cannot be reached."""
    try:
        packages = available(emit)
    except HarnessError as e:
        cached = select(have, wanted or pinned.rpartition(".")[0])
        if cached is None:
            raise
        emit(Note(f"{e}; using {cached.version} from the cache"))
        return cached
    chosen = select(packages, pinned)
    if chosen is None and wanted is None:
        chosen = select(packages, pinned.rpartition(".")[0])
        if chosen:
            emit(Note(f"Debian no longer has Linux {pinned}; using {chosen.upstream}"))
    if chosen is None:
        releases = ", ".join(sorted({p.upstream for p in packages}, key=lambda v: [int(n) for n in v.split(".")]))
        raise UsageError(f"KERNEL=debian:{pinned}: Debian has no such kernel source; it has {releases}")
    return chosen


def available(emit: Emit) -> list[Package]:
    """Return all kernel sources in the archive, by indexes at most ``apt.INDEX_MAX_AGE_S`` old."""
    state = cache_path("apt", ".")
    with phase(emit, "kernel index", "Debian") as step, locked(state, step), disk_full_reported():
        own = _apt(state)
        own.update(step)
        listed = own.run(["apt-cache", "pkgnames", "linux-source-"], state, step)
        packages = list(parse_madison(own.madison([name for name in listed if _PACKAGE.match(name)], step)))
        step.result = f"{len(packages)} kernel sources"
        return packages


def _apt(state: Path) -> apt.Apt:
    data = archive()
    return apt.Apt(state, data.keyring, data.suites)


def _fetch(package: Package, source: Path, emit: Emit) -> None:
    with (
        phase(emit, "kernel source", f"{package.name} {package.version}") as step,
        locked(source, step),
        disk_full_reported(),
    ):
        if source.is_dir():  # another run fetched it first
            return
        require_free_space(SOURCE_ROOM)
        own = _apt(cache_path("apt", "."))
        with fresh_dir(source) as tmp:
            work = tmp / ".download"
            work.mkdir()
            step.progress("downloading")
            own.run(["apt-get", "-q", "download", f"{package.name}={package.version}"], work, step)
            _unpack(next(work.glob("*.deb")), tmp, step)
        step.result = package.version


def _unpack(deb: Path, into: Path, step: Phase) -> None:
    """Unpack the whole tree. A build never reads some files, which cost 8 s, but a series may touch them."""
    work = deb.parent
    process.check(["dpkg-deb", "-x", deb, work], cwd=work)
    deb.unlink()
    tarball = next(work.glob("usr/src/*.tar.xz"))
    totals = process.check(["xz", "--robot", "--list", tarball], cwd=work)[-1].split("\t")
    records = int(totals[4]) / 10240

    def count(line: str) -> None:
        if line.isdecimal():
            step.progress("unpacking", min(1.0, int(line) / records))

    unpack: list[str | Path] = ["tar", "-x", "-f", tarball, "-I", "xz -T0", "-C", into, "--strip-components=1"]
    checkpoints = ["--checkpoint=5000", "--checkpoint-action=exec=echo $TAR_CHECKPOINT"]
    process.check([*unpack, *checkpoints], cwd=work, on_line=count)
    shutil.rmtree(work)
