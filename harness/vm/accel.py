# SPDX-License-Identifier: GPL-2.0-only
"""Choose KVM or TCG. KVM is used only if an ordinary kernel boots under it.

A /dev/kvm that opens proves nothing: a nested KVM may fail at the first instruction that it does not emulate.
"""

import json
import logging
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness import paths
from harness.errors import LaunchError, MissingPrerequisite, UsageError
from harness.host.tsc import tsc_khz
from harness.progress import Emit, Note
from harness.vm.console import Console
from harness.vm.instance import Files, Instance
from harness.vm.qemu import Qemu
from harness.vm.qmp import Events

log = logging.getLogger(__name__)

MODES = ("auto", "kvm", "tcg")
KVM = Path("/dev/kvm")
PROBE_S = 5.0
"""TCG needs 1 s. A KVM that needs longer is not worth using, unless the user asks for it."""
PATIENT_PROBE_S = 10.0
"""For ``kvm``: a KVM inside an emulated machine takes seconds to print its first line."""
BOOTED = b"VFS: Unable to mount root fs"
"""The kernel has finished its own start-up when it looks for a root file system. The probe gives it none."""

KVM_OPTION = "kvm,kernel-irqchip=split"
"""A full in-kernel irqchip excludes the vIOMMU's interrupt remapping."""
THREADS_SINCE = (8, 2)
"""The first QEMU whose TCG may run each vCPU in a thread of its own.

Before "softmmu: Use async_run_on_cpu in tcg_commit", a change of the memory map by one vCPU (a BAR that is disabled)
sends an access of another to the wrong region. If that is its local APIC, an interrupt is lost, or never ended.
"""


@dataclass(frozen=True)
class Accel:
    """The accelerator that runs the guest's instructions."""

    name: Literal["kvm", "tcg"]
    reason: str
    """Why it was chosen."""

    def option(self, qemu: Qemu) -> str:
        """Return the value of ``-accel`` for this QEMU."""
        if self.name == "kvm":
            return KVM_OPTION
        return "tcg,thread=multi" if qemu.version >= THREADS_SINCE else "tcg,thread=single"

    def clock(self) -> list[str]:
        """Return the kernel's arguments for its clock.

        Under TCG a busy host disturbs the calibration of the TSC. The kernel then prefers the PIT's wrong result to the
        right one of the PM timer (arch/x86/kernel/tsc.c, "PIT calibration deviates from"), so it gets the rate.
        """
        khz = tsc_khz() if self.name == "tcg" else None
        return [f"tsc_early_khz={khz}"] if khz else []


@dataclass(frozen=True)
class _Fault:
    """Why KVM cannot be used."""

    reason: str
    certain: bool = True
    """Whether KVM is the cause. If not, the kernel may be."""


def choose_accel(mode: str, qemu: Qemu, kernel: Path, emit: Emit) -> Accel:
    """Choose by ``mode``: ``auto``, ``kvm`` or ``tcg``.

    ``auto`` boots ``kernel`` under KVM once per host kernel and QEMU, and remembers the result. ``kvm`` boots it unless
    KVM is known to work.

    Raises UsageError for another mode, and MissingPrerequisite for ``kvm`` on a host whose KVM boots no kernel.
    """
    match mode:
        case "auto":
            fault = _known_fault(qemu, kernel)
            accel = Accel("tcg", fault.reason) if fault else Accel("kvm", "a kernel has booted under it")
        case "kvm":
            _require_kvm(qemu, kernel)
            accel = Accel("kvm", "chosen by the user")
        case "tcg":
            accel = Accel("tcg", "chosen by the user")
        case _:
            raise UsageError(f"unknown accelerator {mode!r}; accepted are {', '.join(MODES)}")
    emit(Note(f"accelerator {accel.name}: {accel.reason}"))
    return accel


def kvm_state() -> str | None:
    """Return why /dev/kvm does not open, or None if it does."""
    try:
        with KVM.open("r+b", buffering=0):
            return None
    except OSError as error:
        return f"{KVM}: {error.strerror}"


def _require_kvm(qemu: Qemu, kernel: Path) -> None:
    """Raise MissingPrerequisite if KVM boots no kernel. A remembered fault is tested again: the host may have changed.

    A fault that may be the kernel's own raises nothing: the run judges that kernel.
    """
    if not _known_fault(qemu, kernel):
        return
    fault = _probe(qemu, kernel, PATIENT_PROBE_S)
    if fault and fault.certain:
        raise MissingPrerequisite(
            f"this host's KVM cannot be used: {fault.reason}",
            hint="use --accel tcg, or auto, which falls back to it",
        )


def _known_fault(qemu: Qemu, kernel: Path) -> _Fault | None:
    """Return why KVM cannot be used, from the cache if possible. A fault that may be the kernel's is not cached."""
    if closed := kvm_state():
        return _Fault(closed)
    file = _cache_file(qemu)
    try:
        known: dict[str, str | None] = json.loads(file.read_text(encoding="utf-8"))
        reason = known["fault"]
    except (OSError, ValueError, KeyError):
        return _probe(qemu, kernel, PROBE_S)
    log.debug("KVM: cache hit: %s: %s", file, reason or "works")
    return _Fault(reason) if reason else None


def _cache_file(qemu: Qemu) -> Path:
    return paths.cache_dir() / "kvm" / f"{platform.release()}-{qemu.identity()[:16]}.json"


def _probe(qemu: Qemu, kernel: Path, seconds: float) -> _Fault | None:
    """Boot ``kernel`` under KVM, for at most ``seconds``, and cache the result if it is certain."""
    if closed := kvm_state():
        return _Fault(closed)
    fault = _boot_under_kvm(qemu, kernel, seconds)
    if fault is None or fault.certain:
        file = _cache_file(qemu)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"fault": fault.reason if fault else None}), encoding="utf-8")
    return fault


def _boot_under_kvm(qemu: Qemu, kernel: Path, seconds: float) -> _Fault | None:
    events = Events()
    options = [
        *(str(qemu.path), "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35"),
        *("-accel", KVM_OPTION, "-cpu", "EPYC", "-m", "256"),
        *("-kernel", str(kernel), "-append", "console=ttyS0"),
    ]
    with tempfile.TemporaryDirectory(prefix="vfio-harness-") as scratch:
        files = Files.within(Path(scratch))
        instance = Instance(files, events.add)
        try:
            instance.start(options)
            console = Console(files.console, lambda: _raise_if_stopped(events))
            console.wait_for(BOOTED, timeout=seconds)
        except LaunchError as error:
            return _Fault(f"QEMU does not start with KVM: {str(error).splitlines()[1]}")
        except _Stopped:
            said = instance.process.stderr_tail().splitlines() if instance.process else []
            return _Fault(f"KVM opens, but no kernel boots under it (QEMU: {said[0] if said else 'stopped'})")
        except TimeoutError:
            silent = not console.mark()  # a kernel that prints runs, so KVM may be well
            return _Fault(f"KVM opens, but no kernel boots under it within {seconds:g} s", certain=silent)
        finally:
            instance.close()
    return None


class _Stopped(Exception):
    """QEMU stopped the guest, or exited."""


def _raise_if_stopped(events: Events) -> None:
    if any(event.name in ("STOP", "SHUTDOWN") for event in events.since(0)):
        raise _Stopped
