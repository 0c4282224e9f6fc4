# SPDX-License-Identifier: GPL-2.0-only
"""What each platform needs, and whether this host has it: KVM, other QEMUs, other architectures, some machines."""

import getpass
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from harness import config, vm
from harness.commands.doctor_finding import Finding
from harness.config import ArchName, MachineConfig
from harness.errors import HarnessError
from harness.host.packages import find, install_line
from harness.nested import recipe
from harness.nested.outer import require_9p
from harness.nightly.plan import load_plan
from harness.run.options import Options
from harness.vm import debian_qemu
from harness.vm.accel import kvm_state, remembered, without_kvm

FETCHED = "it is not in the cache: the first run fetches it, 45 MB"
NO_KVM = "optional: without it TCG runs the machines, which is slower"


def platform_findings(options: Options) -> Iterator[Finding]:
    """Check each platform. All are optional, and nothing is fetched or booted."""
    yield kvm_finding(options)
    yield kvm_test_finding(options)
    for name in sorted({each for each in load_plan().qemus.values() if each.startswith(debian_qemu.PREFIX)}):
        yield qemu_finding(name)
    for arch, each in config.architectures().items():
        if not each.is_native:
            yield arch_finding(arch)
    for machine in map(config.load_machine, config.known_machines()):
        if machine.min_qemu or machine.qemu:
            yield machine_finding(machine, options)


def kvm_finding(options: Options) -> Finding:
    """Check KVM: /dev/kvm must open, and a kernel must have booted under it."""
    name = "platform KVM: /dev/kvm, under which a kernel boots"
    machine = config.load_machine(options.machine)
    if useless := without_kvm(machine.arch):
        return Finding(f"{name} ({useless})")
    if closed := kvm_state():
        load = "modprobe kvm_amd or kvm_intel, which needs virtualisation to be on in the firmware or the hypervisor"
        allow = f"log in again after: usermod -aG kvm {getpass.getuser()}"
        return Finding(name, f"{closed} ({NO_KVM})", allow if "ermission" in closed else load, optional=True)
    reason = None
    with suppress(HarnessError):  # QEMU has a finding of its own
        program = _present(_wanted(options, machine.qemu), machine.arch)
        reason = remembered(vm.Qemu.probe(program, arch=machine.arch), machine.cpu) if program != "" else None
    if reason is None:
        return Finding(f"{name} (it opens; the first run tries one)")
    if reason:
        fix = "use a host or a hypervisor whose KVM works; `vfio-harness kvm-test` needs none"
        return Finding(name, f"{reason} ({NO_KVM})", fix, optional=True)
    return Finding(name)


def kvm_test_finding(options: Options) -> Finding:
    """Check what ``kvm-test`` needs beyond the rest: a QEMU with 9p, by default one of its own."""
    wanted = _wanted(options, recipe.load().qemu)
    name = f"platform KVM in an emulated machine (kvm-test): QEMU {wanted} with 9p"
    try:
        if (program := _present(wanted, config.DEFAULT_ARCH)) == "":
            return Finding(name, f"{FETCHED} (optional: kvm-test)", _fetch(str(wanted)), optional=True)
        require_9p(vm.Qemu.probe(program))
    except HarnessError as error:
        return Finding(name, f"{error} (optional: kvm-test)", error.hint, optional=True)
    return Finding(name)


def qemu_finding(name: str) -> Finding:
    """Check a QEMU of the nightly plan. ``name``: ``debian:VERSION``."""
    if debian_qemu.cached(name):
        return Finding(f"platform QEMU={name}")
    lost = "optional: lines of vm-configs/nightly.yaml"
    return Finding(f"platform QEMU={name}", f"{FETCHED} ({lost})", _fetch(name), optional=True)


def arch_finding(arch: ArchName) -> Finding:
    """Check what the machines of an architecture need on a host of another one."""
    found = config.architecture(arch)
    needed = [found.qemu.program, found.tool("gcc"), f"/usr/{found.gnu}/lib/libc.a"]
    name = f"platform {arch}: {', '.join(needed)}"
    missing = [each for each in needed if not (Path(each).is_file() if each.startswith("/") else find(each))]
    if not missing:
        return Finding(name)
    problem = f"not installed: {', '.join(missing)} (optional: machines of {arch})"
    return Finding(name, problem, install_line(missing), optional=True)


def machine_finding(machine: MachineConfig, options: Options) -> Finding:
    """Check the QEMU of a machine that does not run on each."""
    needs = f"QEMU {machine.min_qemu} or newer" if machine.min_qemu else f"QEMU={machine.qemu}"
    name = f"platform {machine.name}: {needs}"
    wanted = _wanted(options, machine.qemu)
    try:
        if (program := _present(wanted, machine.arch)) == "":
            fix = _fetch(str(wanted), machine.name)
            return Finding(name, f"{wanted}: {FETCHED} (optional: this machine)", fix, optional=True)
        vm.settle(machine, vm.Qemu.probe(program, arch=machine.arch))
    except HarnessError as error:
        return Finding(name, f"{error} (optional: this machine)", error.hint, optional=True)
    return Finding(name)


def _wanted(options: Options, own: str | None) -> str | None:
    return options.qemu or os.environ.get("QEMU") or own


def _present(wanted: str | None, arch: ArchName) -> str | None:
    """Return what ``Qemu.probe`` takes without a fetch: ``wanted`` or a program of the cache; empty without one."""
    if wanted is None or not wanted.startswith(debian_qemu.PREFIX):
        return wanted
    return str(debian_qemu.cached(wanted, arch) or "")


def _fetch(qemu: str, machine: str = config.DEFAULT_MACHINE) -> str:
    other = f" --machine {machine}" if config.load_machine(machine).arch != config.DEFAULT_ARCH else ""
    return f"vfio-harness doctor{other} --qemu {qemu}"
