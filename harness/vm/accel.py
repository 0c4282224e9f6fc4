# SPDX-License-Identifier: GPL-2.0-only
"""KVM or TCG: KVM only where an ordinary kernel has booted under it. A /dev/kvm that opens proves nothing:
a nested one may fail at the first instruction it does not emulate."""

import json
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness import paths
from harness.errors import LaunchError, UsageError
from harness.progress import Emit, Note
from harness.vm.console import Console
from harness.vm.instance import Files, Instance
from harness.vm.qemu import Qemu
from harness.vm.qmp import Events

MODES = ("auto", "kvm", "tcg")
KVM = Path("/dev/kvm")
PROBE_S = 5.0
"""TCG needs 1 s: a KVM that needs longer is none to wait for."""
BOOTED = b"VFS: Unable to mount root fs"
"""All of the kernel's own start-up is done when it looks for a root file system; the probe gives it none."""

OPTIONS = {
    "kvm": "kvm,kernel-irqchip=split",  # a full in-kernel irqchip excludes the vIOMMU's interrupt remapping
    "tcg": "tcg,thread=multi",
}


@dataclass(frozen=True)
class Accel:
    """What runs the guest's instructions, and why that."""

    name: Literal["kvm", "tcg"]
    reason: str

    @property
    def option(self) -> str:
        """For QEMU's ``-accel``."""
        return OPTIONS[self.name]


def choose_accel(mode: str, qemu: Qemu, kernel: Path, emit: Emit) -> Accel:
    """``auto``, or ``kvm`` or ``tcg`` by force. ``auto`` boots ``kernel`` under KVM once per host kernel and QEMU.

    Raises UsageError for another mode.
    """
    if mode not in MODES:
        raise UsageError(f"accelerator {mode!r}: accepted are {', '.join(MODES)}")
    if mode == "auto":
        why_not = kvm_fault(qemu, kernel)
        accel = Accel("tcg", why_not) if why_not else Accel("kvm", "a kernel has booted under it")
    else:
        accel = Accel("kvm" if mode == "kvm" else "tcg", "asked for")
    emit(Note(f"accelerator {accel.name}: {accel.reason}"))
    return accel


def kvm_state() -> str | None:
    """Why /dev/kvm cannot be used at all, or None if it opens."""
    try:
        with KVM.open("r+b", buffering=0):
            return None
    except OSError as error:
        return f"{KVM}: {error.strerror}"


def kvm_fault(qemu: Qemu, kernel: Path) -> str | None:
    """Why KVM is of no use, or None if a kernel boots under it. Remembered, unless the kernel may be to blame."""
    if fault := kvm_state():
        return fault
    file = paths.cache_dir() / "kvm" / f"{platform.release()}-{qemu.identity()[:16]}.json"
    try:
        known: dict[str, str | None] = json.loads(file.read_text(encoding="utf-8"))
        return known["fault"]
    except (OSError, ValueError, KeyError):
        pass
    fault, certain = _boot_under_kvm(qemu, kernel)
    if certain:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"fault": fault}), encoding="utf-8")
    return fault


def _boot_under_kvm(qemu: Qemu, kernel: Path) -> tuple[str | None, bool]:
    """(why it does not boot or None, whether that is KVM's and not the kernel's doing)."""
    events = Events()
    options = [
        *(str(qemu.path), "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35"),
        *("-accel", OPTIONS["kvm"], "-cpu", "EPYC", "-m", "256"),
        *("-kernel", str(kernel), "-append", "console=ttyS0"),
    ]
    with tempfile.TemporaryDirectory(prefix="vfio-harness-") as scratch:
        files = Files.within(Path(scratch))
        instance = Instance(files, events.add)
        try:
            instance.start(options)
            console = Console(files.console, lambda: _raise_if_stopped(events))
            console.wait_for(BOOTED, timeout=PROBE_S)
        except LaunchError as error:
            return f"QEMU does not start with KVM: {str(error).splitlines()[1]}", True
        except _Stopped:
            said = instance.process.stderr_tail().splitlines() if instance.process else []
            return f"KVM opens, but no kernel boots under it (QEMU: {said[0] if said else 'stopped'})", True
        except TimeoutError:
            return f"KVM opens, but no kernel boots under it within {PROBE_S:g} s", not console.mark()
        finally:
            instance.close()
    return None, True


class _Stopped(Exception):
    """QEMU stopped the guest, or left."""


def _raise_if_stopped(events: Events) -> None:
    if any(event.name in ("STOP", "SHUTDOWN") for event in events.since(0)):
        raise _Stopped
