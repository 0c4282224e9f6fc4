# SPDX-License-Identifier: GPL-2.0-only
"""QEMU=debian:VERSION: which package it means, and how the fetched QEMU is started."""

import os
import subprocess
from pathlib import Path

import pytest

from harness.config import architecture, load, native
from harness.errors import HarnessError, MissingPrerequisite, UsageError
from harness.host import unpack as unpack_module
from harness.host.apt import parse_madison
from harness.host.unpack import Archive
from harness.paths import VM_CONFIGS
from harness.progress import Note, Phase, silent
from harness.vm import debian_qemu
from harness.vm.debian_qemu import Package, Suites, obtain, packages_of, select

# `apt-cache madison qemu-system-x86` with the sources of debian-qemu.yaml
MADISON = """\
qemu-system-x86 | 1:11.1.3+ds-1~bpo13+1 | http://deb.debian.org/debian trixie-backports/main amd64 Packages
qemu-system-x86 | 1:10.0.13+ds-0+deb13u1 | http://deb.debian.org/debian trixie/main amd64 Packages
qemu-system-x86 | 1:10.0.2+ds-2~bpo12+1 | http://deb.debian.org/debian bookworm-backports/main amd64 Packages
qemu-system-x86 | 1:7.2+dfsg-7+deb12u18+b3 | http://deb.debian.org/debian bookworm/main amd64 Packages
qemu-system-arm | 1:12.0+ds-1 | http://deb.debian.org/debian trixie/main amd64 Packages
"""
PACKAGES = packages_of(parse_madison(MADISON.splitlines()), "qemu-system-x86")
TRIXIE = Package("1:10.0.13+ds-0+deb13u1", "trixie")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VFIO_HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "qemu" / "debian"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def update(*args: object) -> None:
        raise HarnessError("apt-get failed")

    monkeypatch.setattr(debian_qemu.Apt, "update", update)


def cached(cache: Path, package: Package) -> Path:
    program = cache / package.dirname / "qemu-system-x86_64"
    program.parent.mkdir(parents=True)
    program.touch()
    return program


@pytest.mark.parametrize(
    ("wanted", "suite"),
    [
        ("11.1", "trixie-backports"),
        ("11", "trixie-backports"),
        ("10.0", "trixie"),  # 13 is newer than 2: numbers, not text
        ("10.0.2", "bookworm-backports"),
        ("7.2", "bookworm"),
        ("1", None),  # not 11
        ("12.0", None),  # another package
    ],
)
def test_the_newest_version_of_a_series_is_selected(wanted: str, suite: str | None) -> None:
    chosen = select(PACKAGES, wanted)
    assert (chosen.suite if chosen else None) == suite


def test_a_directory_of_the_cache_names_its_package() -> None:
    found = Package.of(Path(TRIXIE.dirname))
    assert (found.upstream, found.suite, found.dirname) == ("10.0.13", "trixie", TRIXIE.dirname)


@pytest.mark.parametrize("wanted", ["debian:", "debian:sid", "debian:11.1-rc1", "debian:../11"])
def test_a_malformed_version_is_refused(wanted: str) -> None:
    with pytest.raises(UsageError, match=f"QEMU={wanted}: not a version"):
        obtain(wanted, silent)


def test_an_exact_version_in_the_cache_needs_no_network(cache: Path, offline: None) -> None:
    program = cached(cache, TRIXIE)
    assert obtain("debian:10.0.13", silent) == program


def test_each_use_is_dated(cache: Path, offline: None) -> None:
    directory = cached(cache, TRIXIE).parent
    os.utime(directory, (0, 0))
    obtain("debian:10.0.13", silent)
    assert directory.stat().st_mtime > 0


def test_without_a_network_the_cache_serves_a_series(cache: Path, offline: None) -> None:
    program = cached(cache, TRIXIE)
    assert obtain("debian:10.0", silent) == program
    with pytest.raises(HarnessError, match="apt-get failed"):
        obtain("debian:11.1", silent)


def test_the_archive_is_asked_once_a_day(cache: Path, offline: None) -> None:
    program = cached(cache, Package("1:11.1.2+ds-1", "trixie-backports"))
    stamp = cache.with_name("apt") / "updated"
    stamp.parent.mkdir()
    stamp.touch()
    events: list[object] = []
    assert obtain("debian:11.1", events.append) == program
    assert not events
    os.utime(stamp, (0, 0))
    assert obtain("debian:11.1", events.append) == program
    assert Note("apt-get failed; using QEMU 11.1.2 from the cache") in events


def test_an_unfinished_fetch_is_not_used(cache: Path, offline: None) -> None:
    (cache / TRIXIE.dirname).mkdir(parents=True)
    with pytest.raises(HarnessError, match="apt-get failed"):
        obtain("debian:10.0.13", silent)


def test_a_version_that_debian_lacks_is_refused_with_those_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian_qemu.Apt, "update", lambda *args: None)
    monkeypatch.setattr(debian_qemu.Apt, "madison", lambda *args: MADISON.splitlines())
    with pytest.raises(UsageError, match=r"debian:9: Debian has no such QEMU; it has 7\.2, 10\.0\.2, 10\.0\.13, 11"):
        obtain("debian:9", silent)


def test_missing_mmdebstrap_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    archive = Archive("trixie", ["http://mirror trixie main"], __file__)
    with pytest.raises(MissingPrerequisite, match="mmdebstrap is not installed") as caught:
        unpack_module.unpack(archive, ["qemu"], tmp_path / "root", "QEMU")
    assert caught.value.hint == "apt-get install mmdebstrap"


@pytest.mark.parametrize("place", ["usr/lib64", f"lib/{architecture(native()).gnu}"], ids=["trixie", "bookworm"])
def test_the_wrapper_starts_qemu_with_its_own_loader_wherever_the_cache_is(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    """A stand-in for the loader prints its arguments."""

    def unpack(archive: Archive, packages: list[str], target: Path, subject: str, step: Phase) -> None:
        assert (archive.release, packages) == ("trixie", [f"qemu-system-x86={TRIXIE.version}"])
        loader = target / place / "ld-linux-x86-64.so.2"
        loader.parent.mkdir(parents=True)
        loader.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        loader.chmod(0o755)
        target.with_name("tmp").mkdir()

    monkeypatch.setattr(debian_qemu.Apt, "update", lambda *args: None)
    monkeypatch.setattr(debian_qemu.Apt, "madison", lambda *args: MADISON.splitlines())
    monkeypatch.setattr(debian_qemu, "unpack", unpack)
    program = obtain("debian:10.0", silent)
    moved = tmp_path / "a moved cache"
    program.parent.rename(moved)
    printed = subprocess.check_output([moved / program.name, "-device", "a b"], text=True).splitlines()
    assert printed[0] == "--library-path"
    assert printed[2] == f"{moved}/root/usr/bin/qemu-system-x86_64"
    assert printed[-2:] == ["-device", "a b"]


def test_the_shipped_suites_can_be_read() -> None:
    data = load(VM_CONFIGS / "debian-qemu.yaml", Suites)
    assert {"trixie", "trixie-backports"} <= data.suites.keys()
    for name, suite in data.suites.items():
        assert any(name in source.split() for source in suite.sources)


@pytest.mark.usefixtures("offline")
def test_each_architecture_has_a_qemu_of_its_own(cache: Path) -> None:
    program = cached(cache, TRIXIE)
    with pytest.raises(HarnessError):
        obtain("debian:10.0.13", silent, "arm64")
    other = cache.with_name("debian-arm64") / TRIXIE.dirname / "qemu-system-aarch64"
    other.parent.mkdir(parents=True)
    other.touch()
    assert obtain("debian:10.0.13", silent, "arm64") == other
    assert obtain("debian:10.0.13", silent) == program
    assert debian_qemu.fetched() == [program.parent, other.parent]
