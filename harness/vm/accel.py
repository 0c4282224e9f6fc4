# SPDX-License-Identifier: GPL-2.0-only
"""Choose KVM or TCG. KVM is used only if an ordinary kernel boots under it.

A /dev/kvm that opens proves nothing: a nested KVM may fail at the first instruction that it does not emulate.
"""

import hashlib
import json
import logging
import platform
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from harness import paths
from harness.config import DEFAULT_ARCH, ArchName, architecture
from harness.errors import LaunchError, MissingPrerequisite, UsageError
from harness.host.tsc import tsc_khz
from harness.progress import Emit, Note
from harness.vm.console import Console
from harness.vm.instance import Files, Instance
from harness.vm.qemu import Qemu
from harness.vm.qmp import Event, Events

log = logging.getLogger(__name__)

MODES = ("auto", "kvm", "tcg")
KVM = Path("/dev/kvm")
PROBE_S = 5.0
"""How long a kernel may take to print its first line under KVM. Even under TCG it needs half a second."""
PATIENT_PROBE_S = 10.0
"""For ``kvm``, which the user asks for."""
STARTS = 5.0
"""The same in starts of QEMU, for a slow host: in an emulated machine QEMU needs 2 to 5 s, the kernel 3 to 6 s."""
QUIET_S = 20.0
"""How long a kernel that has printed may print nothing. It runs, and is faster than under a TCG on the same host."""
BOOT_S = 120.0
"""How long it may take in all."""
EMULATED_BOOTS = 3
"""Boots of the probe under an emulated KVM, which stops or resets its guest now and then (docs/kvm.md)."""
BOOTED = b"VFS: Unable to mount root fs"
"""The kernel has finished its own start-up when it looks for a root file system. The probe gives it none."""

KVM_OPTION = "kvm,kernel-irqchip=split"
"""A full in-kernel irqchip excludes the vIOMMU's interrupt remapping."""
THREADS_SINCE = (11, 1)
"""The oldest QEMU known to run each vCPU of TCG safely in a thread of its own.

Before 8.2 ("softmmu: Use async_run_on_cpu in tcg_commit"), a change of the memory map by one vCPU (a BAR that is
disabled) sends an access of another to the wrong region. If that is its local APIC, an interrupt is lost, or never
ended. 10.0.13 aborts instead, once in 570 cases: iotlb_to_section() asserts that the region's number is one of the new
map (QEMU issue 1921). 11.1.3 has no such numbers.
"""


@dataclass(frozen=True)
class Accel:
    """The accelerator that runs the guest's instructions."""

    name: Literal["kvm", "tcg"]
    reason: str
    """Why it was chosen."""
    emulated: bool = False
    """Whether the processor's virtualisation is itself emulated, as that of QEMU's TCG is."""

    def option(self, qemu: Qemu) -> str:
        """Return the value of ``-accel`` for this QEMU."""
        if self.name == "kvm":
            return KVM_OPTION
        return "tcg,thread=multi" if qemu.version >= THREADS_SINCE else "tcg,thread=single"

    def arguments(self) -> list[str]:
        """Return more arguments of QEMU."""
        return []

    def clock(self, arch: ArchName) -> list[str]:
        """Return the kernel's arguments for its clock.

        Under TCG a busy host disturbs the calibration of the TSC. The kernel then prefers the PIT's wrong result to the
        right one of the PM timer (arch/x86/kernel/tsc.c, "PIT calibration deviates from"), so it gets the rate.
        """
        khz = tsc_khz() if self.name == "tcg" and arch == DEFAULT_ARCH else None
        return [f"tsc_early_khz={khz}"] if khz else []


@dataclass(frozen=True)
class InstructionCounter(Accel):
    """TCG whose clocks, the TSC among them, count the instructions of the guest: one nanosecond each.

    QEMU docs/devel/tcg-icount.rst. It runs one vCPU at a time, and does not wait for timers while all are idle.
    """

    name: Literal["kvm", "tcg"] = "tcg"
    reason: str = "its clocks count instructions"

    def option(self, qemu: Qemu) -> str:
        """Return the value of ``-accel``."""
        return "tcg,thread=single"

    def clock(self, arch: ArchName) -> list[str]:
        """Return the kernel's argument for a TSC of 1 GHz."""
        return ["tsc_early_khz=1000000"] if arch == DEFAULT_ARCH else []

    def arguments(self) -> list[str]:
        """Return more arguments of QEMU."""
        return ["-icount", "shift=0,sleep=off"]


@dataclass(frozen=True)
class _Fault:
    """Why KVM cannot be used."""

    reason: str
    certain: bool = True
    """Whether KVM is the cause. If not, the kernel may be."""
    stopped: bool = False
    """Whether QEMU stopped or reset the guest, which an emulated KVM may not do again."""


@dataclass(frozen=True)
class Trial:
    """What is booted to try KVM."""

    qemu: Qemu
    kernel: Path
    cpu: str
    """The value of ``-cpu``: KVM may fail with one and not with another."""
    arch: ArchName = DEFAULT_ARCH
    """That of the kernel."""
    emulated: bool = False
    """``Accel.emulated``. A choice other than KVM is an error then."""


def choose_accel(mode: str, trial: Trial, emit: Emit) -> Accel:
    """Choose by ``mode``: ``auto``, ``kvm`` or ``tcg``.

    ``auto`` boots the kernel under KVM once per host kernel, QEMU and CPU model, and remembers the result. ``kvm``
    boots it unless KVM is known to work.

    Raises UsageError for another mode. Raises MissingPrerequisite for ``kvm`` on a host whose KVM boots no kernel, and
    for ``Trial.emulated`` unless KVM is chosen.
    """
    without = without_kvm(trial.arch)
    match mode:
        case "auto" if without:
            accel = Accel("tcg", without)
        case "kvm" if without:
            raise MissingPrerequisite(f"no KVM: {without}", hint="use --accel tcg, or auto")
        case "auto":
            fault = _known_fault(trial)
            if fault and (fault.certain or not trial.emulated):
                accel = Accel("tcg", fault.reason)
            else:
                accel = Accel("kvm", fault.reason if fault else "a kernel has booted under it")
        case "kvm":
            _require_kvm(trial)
            accel = Accel("kvm", "chosen by the user")
        case "tcg":
            accel = Accel("tcg", "chosen by the user")
        case _:
            raise UsageError(f"unknown accelerator {mode!r}; accepted are {', '.join(MODES)}")
    if trial.emulated and accel.name != "kvm":
        raise MissingPrerequisite(f"this run needs KVM, but would use TCG: {accel.reason}")
    accel = replace(accel, emulated=trial.emulated)
    emit(Note(f"accelerator {accel.name}: {accel.reason}"))
    return accel


def without_kvm(arch: ArchName) -> str:
    """Return why KVM is not used for an architecture, whatever the host's KVM can do; empty if it may be."""
    found = architecture(arch)
    if not found.is_native:
        return f"KVM of a {platform.machine()} host does not run {arch}"
    return "" if found.kvm else f"KVM has not been tried with {arch}"


def kvm_state() -> str | None:
    """Return why /dev/kvm does not open, or None if it does."""
    try:
        with KVM.open("r+b", buffering=0):
            return None
    except OSError as error:
        return f"{KVM}: {error.strerror}"


def _require_kvm(trial: Trial) -> None:
    """Raise MissingPrerequisite if KVM boots no kernel. A remembered fault is tested again: the host may have changed.

    A fault that may be the kernel's own raises nothing: the run judges that kernel.
    """
    if not _known_fault(trial):
        return
    fault = _probe(trial, PATIENT_PROBE_S)
    if fault and fault.certain:
        raise MissingPrerequisite(
            f"this host's KVM cannot be used: {fault.reason}",
            hint="use --accel tcg, or auto, which falls back to it",
        )


def _known_fault(trial: Trial) -> _Fault | None:
    """Return why KVM cannot be used, from the cache if possible. A fault that may be the kernel's is not cached."""
    if closed := kvm_state():
        return _Fault(closed)
    reason = remembered(trial.qemu, trial.cpu, emulated=trial.emulated)
    if reason is None:
        return _probe(trial, PROBE_S)
    log.debug("KVM: cache hit: %s", reason or "works")
    return _Fault(reason) if reason else None


def remembered(qemu: Qemu, cpu: str, *, emulated: bool = False) -> str | None:
    """Return why KVM boots no kernel with this QEMU and CPU model, without a boot.

    It is empty if one has booted, and None if none has been tried yet. ``emulated``: of ``Trial``.
    """
    try:
        known: dict[str, str | None] = json.loads(_cache_file(qemu, cpu, emulated).read_text(encoding="utf-8"))
        return known["fault"] or ""
    except (OSError, ValueError, KeyError):
        return None


def _cache_file(qemu: Qemu, cpu: str, emulated: bool) -> Path:
    """Return the file of a KVM. An emulated one has its own: its machine shares the host's cache."""
    digest = hashlib.sha256(cpu.encode()).hexdigest()[:8]
    of = "-emulated" if emulated else ""
    return paths.cache_dir() / "kvm" / f"{platform.release()}-{qemu.identity()[:16]}-{digest}{of}.json"


def _probe(trial: Trial, seconds: float) -> _Fault | None:
    """Boot the kernel under KVM, and cache the result if it is certain. It has ``seconds`` for its first line."""
    if closed := kvm_state():
        return _Fault(closed)
    for _ in range(EMULATED_BOOTS if trial.emulated else 1):
        fault = _boot_under_kvm(trial, seconds)
        log.debug("KVM: probe: %s", fault or "works")
        if not (fault and fault.stopped):
            break
    if fault is None or fault.certain:
        file = _cache_file(trial.qemu, trial.cpu, trial.emulated)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"fault": fault.reason if fault else None}), encoding="utf-8")
    return fault


def _boot_under_kvm(trial: Trial, seconds: float) -> _Fault | None:
    events = Events()
    options = [
        *(str(trial.qemu.path), "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35"),
        *("-accel", KVM_OPTION, "-cpu", trial.cpu, "-m", "256", "-no-reboot"),
        *("-kernel", str(trial.kernel), "-append", "console=ttyS0"),
    ]
    with tempfile.TemporaryDirectory(prefix="vfio-harness-") as scratch:
        files = Files.within(Path(scratch))
        instance = Instance(files, events.add)
        try:
            began = time.monotonic()
            instance.start(options)
            start = time.monotonic() - began
            console = Console(files.console, lambda: _raise_if_stopped(events))
            fault = _wait_booted(console, max(seconds, STARTS * start), max(QUIET_S, STARTS * start))
        except LaunchError as error:
            fault = _Fault(f"QEMU does not start with KVM: {str(error).splitlines()[1]}")
        except _Stopped as stopped:
            stderr = instance.process.stderr_tail().splitlines() if instance.process else []
            said = stderr[0] if stderr else stopped.event.name.lower()
            # A kernel may reset its machine itself.
            certain = stopped.event.name == "STOP" or not console.mark()
            fault = _Fault(f"KVM opens, but no kernel boots under it (QEMU: {said})", certain, stopped=True)
        finally:
            instance.close()
    return fault


def _wait_booted(console: Console, first: float, quiet: float) -> _Fault | None:
    """Wait until the kernel has booted. Return what is wrong if it does not.

    ``first``: how long it may take to print, in seconds. ``quiet``: how long it may then print nothing.
    """
    began = time.monotonic()
    printed = 0
    while True:
        try:
            console.wait_for(BOOTED, timeout=quiet if printed else first)
            return None
        except TimeoutError:
            took, now = time.monotonic() - began, console.mark()
        if now == printed or took > BOOT_S:
            # A kernel that prints runs, so KVM may be well.
            return _Fault(f"KVM opens, but no kernel boots under it within {took:.0f} s", certain=not printed)
        printed = now


class _Stopped(Exception):
    """QEMU stopped the guest, or ended because the guest was reset or shut down."""

    def __init__(self, event: Event) -> None:
        super().__init__(event.name)
        self.event = event


def _raise_if_stopped(events: Events) -> None:
    for event in events.since(0):
        if event.name in ("STOP", "SHUTDOWN"):
            raise _Stopped(event)
