# SPDX-License-Identifier: GPL-2.0-only
"""Fetch a QEMU of Debian into the cache, for ``QEMU=debian:VERSION``.

It runs with the loader and the libraries of its own release, so it needs neither root nor the host's packages. A
wrapper script starts it, and is used like any other QEMU binary.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config import DEFAULT_ARCH, ArchName, Model, architecture, architectures, load, native
from harness.errors import HarnessError, UsageError
from harness.host.apt import Apt, Available, is_fresh, parse_madison
from harness.host.files import disk_full_reported, fresh_dir, locked, require_free_space, write_atomically
from harness.host.unpack import Archive, unpack
from harness.paths import VM_CONFIGS, cache_dir
from harness.progress import Emit, Note, phase

PREFIX = "debian:"
ROOM = 512 << 20
"""Bytes needed to fetch and unpack one QEMU: 45 MB of packages, 172 MB unpacked."""
INDEX_ROOM = 256 << 20
"""Bytes needed for the indexes of two whole releases."""

WRAPPER = """#!/bin/sh
# QEMU {version} of Debian {suite}, with the loader and the libraries of that release.
top=${{0%/*}}/root
gnu={gnu}
export QEMU_MODULE_DIR="$top/usr/lib/$gnu/qemu"
# Before trixie, Debian has the loader and some libraries outside /usr, and the ROMs of network cards in /usr/lib/ipxe.
for loader in "$top"/usr/lib*/ld-linux*.so.* "$top/lib/$gnu"/ld-linux*.so.*; do
    [ -x "$loader" ] && break
done
exec "$loader" --library-path "$top/usr/lib/$gnu:$top/lib/$gnu" "$top/usr/bin/{program}" \\
    -L "$top/usr/share/qemu" -L "$top/usr/share/seabios" -L "$top/usr/lib/ipxe/qemu" "$@"
"""


class Suite(Model):
    """One suite of debian-qemu.yaml."""

    release: str
    """The base release."""
    sources: list[str]
    """Where its packages and their dependencies are, as in sources.list after ``deb``."""
    prefer: str = ""
    """The suite that wins wherever it has a package."""


class Suites(Model):
    """vm-configs/debian-qemu.yaml."""

    keyring: str
    """The file with the archive's keys."""
    suites: Mapping[str, Suite]
    """By the name that ``apt-cache madison`` gives."""


@dataclass(frozen=True)
class Package:
    """A QEMU of the archive, e.g. 1:11.1.3+ds-1~bpo13+1 of trixie-backports."""

    version: str
    """Debian's version."""
    suite: str

    @property
    def upstream(self) -> str:
        """QEMU's version: 11.1.3."""
        return re.split(r"[-+~]", self.version.rpartition(":")[2], maxsplit=1)[0]

    @property
    def dirname(self) -> str:
        """The name of its directory in the cache."""
        return f"{self.upstream}_{self.version.rpartition(':')[2]}_{self.suite}"

    @classmethod
    def of(cls, directory: Path) -> "Package":
        """Return the package in a directory of the cache."""
        _, version, suite = directory.name.split("_")
        return cls(version, suite)


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, which compare as versions do."""
    return tuple(int(number) for number in re.findall(r"\d+", version))


def select(packages: Iterable[Package], wanted: str) -> Package | None:
    """Return the newest package of the version or series ``wanted``: 10.0 finds 10.0.13, 10.0.2 only itself."""
    fits = [each for each in packages if f"{each.upstream}.".startswith(f"{wanted}.")]
    return max(fits, key=lambda each: (numbers(each.upstream), numbers(each.version)), default=None)


def packages_of(available: Iterable[Available], name: str) -> list[Package]:
    """Return the QEMUs among the packages of the archive: those called ``name``."""
    return [Package(each.version, each.suite) for each in available if each.name == name]


def obtain(name: str, emit: Emit, arch: ArchName = DEFAULT_ARCH) -> Path:
    """Return the program for ``debian:VERSION``, from the cache or fetched now (10 s; 45 MB of packages).

    ``arch``: the architecture that it emulates.

    Raises UsageError if Debian has no such version, MissingPrerequisite without mmdebstrap, apt or the archive's keys,
    and HarnessError if the archive cannot be reached.
    """
    wanted = name.removeprefix(PREFIX)
    if not re.fullmatch(r"\d+(\.\d+)*", wanted):
        raise UsageError(f"QEMU={name}: not a version", hint="e.g. QEMU=debian:11.1 or QEMU=debian:10.0")
    cache = _cache(arch)
    cache.mkdir(parents=True, exist_ok=True)
    have = [Package.of(path) for path in _fetched(arch)]
    package = next((each for each in have if each.upstream == wanted), None) or _choose(wanted, have, arch, emit)
    directory = cache / package.dirname
    if not directory.is_dir():
        _fetch(package, directory, arch, emit)
    os.utime(directory)  # its latest use, for `vfio-harness prune`
    return directory / architecture(arch).qemu.program


def cached(name: str, arch: ArchName = DEFAULT_ARCH) -> Path | None:
    """Return the program for ``debian:VERSION`` if the cache has one that fits; None if it has to be fetched."""
    found = select([Package.of(path) for path in _fetched(arch)], name.removeprefix(PREFIX))
    return _cache(arch) / found.dirname / architecture(arch).qemu.program if found else None


def _cache(arch: ArchName) -> Path:
    return cache_dir() / "qemu" / ("debian" if arch == DEFAULT_ARCH else f"debian-{arch}")


def fetched() -> list[Path]:
    """Return the directory of each QEMU in the cache. Its modification time is that of its latest use."""
    return [path for arch in architectures() for path in _fetched(arch)]


def _fetched(arch: ArchName) -> list[Path]:
    return sorted(path.parent for path in _cache(arch).glob(f"[!.]*/{architecture(arch).qemu.program}"))


def _choose(wanted: str, have: Sequence[Package], arch: ArchName, emit: Emit) -> Package:
    """Choose a package of the archive.

    It is one of the cache (``have``) if the archive was asked within a day, or cannot be reached.
    """
    cached = select(have, wanted)
    state = cache_dir() / "qemu" / "apt"
    if cached and is_fresh(state):
        return cached
    data = load(VM_CONFIGS / "debian-qemu.yaml", Suites)
    name = architecture(arch).qemu.package
    state.mkdir(exist_ok=True)
    try:
        with (
            phase(emit, "QEMU index", "Debian") as step,
            locked(state.with_name("apt.lock"), "Debian's index of QEMU", step),
            disk_full_reported(),
        ):
            apt = Apt(state, data.keyring, sorted({each for suite in data.suites.values() for each in suite.sources}))
            apt.update(step, INDEX_ROOM)
            packages = packages_of(parse_madison(apt.madison([name], step)), name)
            step.result = ", ".join(_versions(packages))
    except HarnessError as error:
        if cached is None:
            raise
        emit(Note(f"{error}; using QEMU {cached.upstream} from the cache"))
        return cached
    chosen = select(packages, wanted)
    if chosen is None:
        known = ", ".join(_versions(packages))
        raise UsageError(f"QEMU={PREFIX}{wanted}: Debian has no such QEMU; it has {known}")
    return chosen


def _versions(packages: Iterable[Package]) -> list[str]:
    return sorted({each.upstream for each in packages}, key=numbers)


def _fetch(package: Package, directory: Path, arch: ArchName, emit: Emit) -> None:
    qemu = architecture(arch).qemu
    data = load(VM_CONFIGS / "debian-qemu.yaml", Suites)
    suite = data.suites[package.suite]
    with (
        phase(emit, "QEMU", f"Debian {package.suite} {package.version}") as step,
        locked(directory.with_name(f"{directory.name}.lock"), f"QEMU {package.upstream}", step),
        disk_full_reported(),
    ):
        if directory.is_dir():  # another run fetched it first
            return
        require_free_space(ROOM)
        archive = Archive(suite.release, suite.sources, data.keyring, suite.prefer, architecture(native()).debian)
        with fresh_dir(directory) as partial:
            unpack(archive, [f"{qemu.package}={package.version}"], partial / "root", f"QEMU {package.upstream}", step)
            (partial / "tmp").rmdir()
            wrapper = partial / qemu.program
            gnu = architecture(native()).gnu
            text = WRAPPER.format(version=package.version, suite=package.suite, program=qemu.program, gnu=gnu)
            write_atomically(wrapper, text)
            wrapper.chmod(0o755)
        step.result = f"{package.upstream}, of Debian {package.suite}"
