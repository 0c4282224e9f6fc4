# SPDX-License-Identifier: GPL-2.0-only
"""What the emulated machine does in one run: the script ``/job``, which its init runs (guest-images/nested/init)."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.nested import initramfs
from harness.nested.recipe import INIT
from harness.nested.shares import Share

_COPIED = (Path("/etc/ld.so.cache"),)
"""Files of the host outside its shares: where the loader finds libraries in other directories than /usr/lib."""


@dataclass(frozen=True)
class Run:
    """One ``vfio-harness`` inside."""

    name: str
    """Its directory in the results."""
    arguments: Sequence[str | Path]
    """Its command line, program first."""


def script(
    shares: Sequence[Share], links: Mapping[str, str], environment: Mapping[str, str], runs: Sequence[Run], seconds: int
) -> str:
    """Return the script: mount the shares, and give all runs together ``seconds`` from its start.

    A run that is interrupted at its deadline keeps what it has judged.
    """
    lines = [f"ln -s {shlex.quote(target)} /{name}" for name, target in links.items()]
    for share in shares:
        lines.append(f"{'cache' if share.writable else 'share'} {share.tag} {shlex.quote(str(share.path))}")
    lines += [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    lines.append(f"end=$(($(uptime_s) + {seconds}))")
    for run in runs:
        command = shlex.join(map(str, run.arguments))
        lines.append(f"run {run.name} $((end - $(uptime_s))) {command}")
    return "\n".join(lines) + "\n"


def archive(text: str) -> bytes:
    """Return the initramfs of a run: init, the run's script, and what it needs of the host's /etc."""
    copied = {str(path).lstrip("/"): path.read_bytes() for path in _COPIED if path.is_file()}
    return initramfs.pack_files({"init": INIT.read_bytes(), "job": text.encode(), **copied})
