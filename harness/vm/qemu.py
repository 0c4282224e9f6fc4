# SPDX-License-Identifier: GPL-2.0-only
"""Find QEMU, and ask it once per binary what it supports."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import paths
from harness.config import DEFAULT_ARCH, ArchName, MachineConfig, Part, architecture
from harness.config.loader import nearest
from harness.errors import HarnessError, MissingPrerequisite, QemuTooOld, UsageError
from harness.host.held import hold
from harness.host.packages import install_line
from harness.progress import Emit, Note, silent
from harness.vm import debian_qemu

OLDEST = (7, 2, 0)
NEWEST = f"{debian_qemu.PREFIX}11.1"
"""The newest QEMU that Debian has, for hints."""
SET = f"set QEMU= to a QEMU binary of the machine's architecture, or to {NEWEST}"
ANSWER_S = 20
"""Deadline for QEMU to print its version or list its properties: about 0.1 s on an idle host."""


@dataclass(frozen=True)
class Qemu:
    """A QEMU binary."""

    path: Path
    version: tuple[int, int, int]
    banner: str
    """The first line of ``--version``."""

    @classmethod
    def probe(cls, path: Path | str | None = None, emit: Emit = silent, arch: ArchName = DEFAULT_ARCH) -> "Qemu":
        """Find QEMU: ``path``, else ``$QEMU``, else the one in PATH. ``debian:VERSION`` is fetched into the cache.

        ``arch``: the architecture that it emulates.

        Raises UsageError, MissingPrerequisite, or HarnessError if Debian's archive cannot be reached.
        """
        program = architecture(arch).qemu.program
        install = install_line([program])
        wanted = str(path or os.environ.get("QEMU") or program)
        own = None
        if wanted.startswith(debian_qemu.PREFIX):
            own = debian_qemu.obtain(wanted, emit, arch)
            wanted = str(own)
        found = shutil.which(wanted)
        if not found:
            asked_for = path or os.environ.get("QEMU")
            raise MissingPrerequisite(
                f"no QEMU: {wanted} is not an executable file" if asked_for else f"no QEMU: {program} is not in PATH",
                hint=SET if asked_for else install,
            )
        said = _ask([found, "--version"], "")
        match = re.search(r"version (\d+)\.(\d+)\.(\d+)", said)
        if not match:
            first = repr(said.splitlines()[0][:80]) if said.strip() else "nothing"
            raise UsageError(f"{found} is not a QEMU; its --version prints {first}", hint=SET)
        version = (int(match[1]), int(match[2]), int(match[3]))
        if version < OLDEST:
            raise MissingPrerequisite(
                f"{found} is QEMU {'.'.join(match.groups())}; the oldest supported is 7.2", hint=install
            )
        qemu = cls(Path(found).resolve(), version, said.splitlines()[0])
        if own:
            hold(own.parent, qemu)
        return qemu

    @classmethod
    def for_machine(cls, config: MachineConfig, path: Path | str | None = None, emit: Emit = silent) -> "Qemu":
        """Find the QEMU of a machine: ``path``, else ``$QEMU``, else the machine's own, else the one in PATH.

        If the machine's own cannot be fetched, the one in PATH serves. Raises as ``probe`` does.
        """
        if path or os.environ.get("QEMU") or not config.qemu:
            return cls.probe(path, emit, config.arch)
        try:
            return cls.probe(config.qemu, emit, config.arch)
        except UsageError:
            raise
        except HarnessError as error:
            emit(Note(f"{error}; {config.name} cannot run on its own QEMU, {config.qemu}"))
            return cls.probe(None, emit, config.arch)

    def identity(self) -> str:
        """Return a name for its entries in the cache, which changes whenever the binary does."""
        stat = self.path.stat()
        return hashlib.sha256(f"{self.path}\0{stat.st_mtime_ns}\0{stat.st_size}\0{self.banner}".encode()).hexdigest()

    def properties(self, types: Iterable[str]) -> dict[str, frozenset[str]]:
        """Return the properties of each of ``types``. A type that this QEMU lacks is absent.

        The source is ``qom-list-properties``, since ``-device X,help`` hides some (``legacy-cmb``). The result is
        cached.
        """
        wanted = set(types)
        file = paths.cache_dir() / "qemu" / f"{self.identity()}.json"
        try:
            known: dict[str, list[str] | None] = json.loads(file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            known = {}
        if missing := sorted(wanted - known.keys()):
            known |= self._list_properties(missing)
            file.parent.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(known), encoding="ascii")
            partial.replace(file)
        return {name: frozenset(found) for name, found in known.items() if name in wanted and found is not None}

    def _list_properties(self, types: list[str]) -> dict[str, list[str] | None]:
        machines = {m.get("alias"): m["name"] for m in self._qmp([{"execute": "query-machines"}])[0]["return"]}
        queries = [
            {
                "execute": "qom-list-properties",
                "arguments": {"typename": f"{machines[t]}-machine" if t in machines else t},
            }
            for t in types
        ]
        return {
            name: [entry["name"] for entry in reply["return"]] if "return" in reply else None
            for name, reply in zip(types, self._qmp(queries), strict=True)
        }

    def _qmp(self, commands: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        script = [{"execute": "qmp_capabilities"}, *commands, {"execute": "quit"}]
        argv = [str(self.path), "-machine", "none", "-nodefaults", "-display", "none", "-qmp", "stdio"]
        said = _ask(argv, "\n".join(map(json.dumps, script)))
        replies = [message for message in map(json.loads, said.splitlines()) if message.keys() & {"return", "error"}]
        return replies[1 : len(commands) + 1]


def _ask(argv: list[str], typed: str) -> str:
    try:
        done = subprocess.run(argv, input=typed, capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HarnessError(f"{argv[0]} does not answer: {error}") from None
    if done.returncode:
        raise HarnessError(f"{' '.join(argv)} failed with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def require_version(config: MachineConfig, qemu: Qemu) -> None:
    """Raise QemuTooOld if the machine needs a newer QEMU."""
    if config.min_qemu and qemu.version < debian_qemu.numbers(config.min_qemu):
        version = ".".join(map(str, qemu.version))
        raise QemuTooOld(
            f"{config.name} needs QEMU {config.min_qemu} or later, and {qemu.path} is {version}",
            hint=f"QEMU={NEWEST} fetches one into the cache",
        )


def settle(config: MachineConfig, qemu: Qemu) -> dict[str, dict[str, bool | int | str]]:
    """Return the properties to set on each part of ``config``, by the part's name, under this QEMU.

    A property of ``if_supported`` that QEMU lacks is left out. Raises UsageError for any other type or property that
    it lacks, and QemuTooOld.
    """
    require_version(config, qemu)
    parts = dict(config.parts())
    have = qemu.properties(part.type for part in parts.values())
    return {name: _settle(config, qemu, name, part, have.get(part.type)) for name, part in parts.items()}


def _settle(
    config: MachineConfig, qemu: Qemu, name: str, part: Part, have: frozenset[str] | None
) -> dict[str, bool | int | str]:
    version = ".".join(map(str, qemu.version))
    if have is None:
        raise UsageError(f"{config.path}: {name}: QEMU {version} ({qemu.path}) has no {part.type!r}")
    for key in part.properties:
        if key not in have:
            raise UsageError(
                f"{config.path}: {name}: QEMU {version}'s {part.type} has no property {key!r}{nearest(key, have)}",
                hint="move it to if_supported if the machine works without it",
            )
    return {**part.properties, **{key: value for key, value in part.if_supported.items() if key in have}}
