# SPDX-License-Identifier: GPL-2.0-only
"""Prepares a run, once: machine description, QEMU, accelerator, kernel and guest image."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from harness import config, image, kernel, vm
from harness.errors import UsageError
from harness.progress import Emit, Note
from harness.run import fail_nth
from harness.run.options import Options
from harness.session import MAINLINE, ExportUapi, Session


@dataclass(frozen=True)
class Setup:
    """A kernel, an image and a machine description, from which machines and sessions are made."""

    options: Options
    """The user's choices."""
    machine: config.MachineConfig
    qemu: vm.Qemu
    accel: vm.Accel
    kernel: kernel.Kernel
    image: image.GuestImage
    agent: Path
    """The agent for this image, a zip application."""
    emit: Emit
    """Receives the progress of builds and boots."""

    @classmethod
    def prepare(cls, options: Options, emit: Emit) -> "Setup":
        """Prepare everything, cheapest first: a mistyped option must not cost a kernel build.

        Raises HarnessError and its subclasses. Leaves no process behind.
        """
        machine = config.load_machine(options.machine).with_cpu_features(options.cpu_features or "")
        qemu = vm.Qemu.for_machine(machine, options.qemu, emit)
        vm.settle(machine, qemu)  # raises its errors before the build
        spec = kernel.KernelSpec(options.kernel, options.flavour, options.change(emit), arch=machine.arch)
        built = kernel.obtain(spec, emit)
        if options.fail_nth:
            fail_nth.require(built)
        guest = image.obtain(emit, machine.arch)
        trial = vm.Trial(qemu, built.image, machine.cpu, machine.arch, emulated=options.emulated_kvm)
        accel = vm.choose_accel(options.accel, trial, emit)
        emit(Note(f"kernel   {built.release} ({built.origin}), {options.flavour}"))
        for patch in built.patches:
            emit(Note(f"patch    {patch}"))
        emit(Note(f"machine  {machine.name}: {qemu.banner}, {accel.name}"))
        return cls(options, machine, qemu, accel, built, guest, guest.agent(), emit)

    def boot_files(self) -> vm.Boot:
        """Return the files that QEMU boots."""
        return vm.Boot(
            kernel=self.kernel.image,
            modules=self.kernel.modules_image,
            root=self.image.root,
            ssh_key=self.image.ssh_key,
            host_key=self.image.host_key,
            agent=self.agent,
        )

    def machine_in(self, rundir: Path) -> vm.Machine:
        """Make a machine, not started yet, that writes into ``rundir``."""
        return self.machine_of(self.boot_files(), rundir)

    def machine_of(self, files: vm.Boot, rundir: Path) -> vm.Machine:
        """Make a machine as ``machine_in`` does, that boots these files."""
        return vm.Machine(self.machine, files, self.qemu, self.accel, rundir, emit=self.emit, gdb_port=self.options.gdb)

    def session_on(self, machine: vm.Machine) -> Session:
        """Make a session that uses the kernel's own uAPI: iommufd with cdevs, or the group interface."""
        cdev = self.kernel.features["vfio_cdev"]
        return Session(
            machine,
            export_uapi=self.export_uapi(),
            interface=None if cdev else "group",
            test_importer=self.kernel.features["test_importer"],
        )

    def export_uapi(self) -> ExportUapi:
        """Return the export uAPI of the kernel's header, or mainline's if the kernel has no header."""
        found = self.kernel.uapi
        return ExportUapi(self.kernel.origin, found.number, found.layout == "single") if found else MAINLINE

    def lacks(self, capability: str) -> str:
        """Return why the machine or the kernel lacks a capability; empty if both have it.

        Raises UsageError for an unknown capability.
        """
        if capability not in {*get_args(config.Capability), *self.kernel.features}:
            raise UsageError(f"no machine and no kernel has a capability {capability!r}")
        if reason := self.machine.lacks.get(cast(config.Capability, capability)):
            return f"{self.machine.name} lacks {capability}: {reason}"
        if self.kernel.features.get(capability, True):
            return ""
        return f"this kernel lacks {capability}: {kernel.lacking(self.kernel, capability)}"
