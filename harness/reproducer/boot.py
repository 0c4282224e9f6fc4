# SPDX-License-Identifier: GPL-2.0-only
"""Boot a machine whose only program is a reproducer."""

import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

from harness import vm
from harness.config import Architecture
from harness.errors import GuestHung, GuestLost
from harness.reproducer import outcome
from harness.reproducer.outcome import Outcome
from harness.reproducer.program import INIT, compile_program, make_root
from harness.verdict import Verdict
from harness.witness.iommu_maps import VIRTIO, IommuMap, IommuMaps

LIMIT_S = 420.0
"""The program ends itself 300 s after its start (generate.TIMEOUT_S). The rest is for the boot."""
CONSOLE_LIMIT = 1 << 20
ALL = 1 << 64
"""Bytes of all physical addresses."""

MachineOf = Callable[[vm.Boot, Path], vm.Machine]
"""Makes a machine, not started yet, that boots these files and writes into a directory."""


def boot(source: Path, files: vm.Boot, machine_of: MachineOf, arch: Architecture, directory: Path) -> Outcome:
    """Compile ``source``, boot it on a machine and return its verdict.

    ``files``: what a session would boot. ``directory`` receives the console, and QEMU's command. Raises UsageError if
    the program does not compile, and the errors of a boot.
    """
    with tempfile.TemporaryDirectory(prefix="vfio-harness-") as name:
        top = Path(name)
        compile_program(source.absolute(), top / INIT, arch)
        make_root(top / INIT, top / "root.erofs")
        alone = replace(files, root=top / "root.erofs", append=f"{files.append} init=/{INIT}".strip())
        with machine_of(alone, directory) as machine:
            maps = IommuMaps(machine) if machine.iommu_type == VIRTIO else None
            ended = _wait(machine)
            found = outcome.read(machine.console.since(0, CONSOLE_LIMIT), ended=ended)
            if found.verdict is Verdict.SKIP and maps:
                return judge_maps(found, maps.since(0, 0, ALL), machine.config.memory_mib << 20)
    return found


def judge_maps(skipped: Outcome, maps: list[IommuMap], memory: int) -> Outcome:
    """Judge by the memory types that a virtio-iommu received, where the guest cannot see them.

    ``memory``: bytes of RAM, which begins at 0. All else must be mapped as MMIO.
    """
    bars = [each for each in maps if each.phys >= memory]
    if not bars:
        return skipped
    wrong = [each for each in bars if not each.mmio]
    reason = f"the host saw {wrong[0]}" if wrong else f"the host saw {len(bars)} maps of BARs, all as MMIO"
    return replace(skipped, verdict=Verdict.FAIL if wrong else Verdict.PASS, reason=reason)


def _wait(machine: vm.Machine) -> str:
    """Wait until the machine powers off. Returns how it ended."""
    never: Future[None] = Future()
    try:
        machine.wait_for(never, LIMIT_S, "the end of the reproducer")
    except GuestHung:
        return f"no end within {LIMIT_S:g} s"
    except GuestLost as end:  # a machine reports a power-off as a crash
        return str(end)
    return ""
