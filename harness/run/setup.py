# SPDX-License-Identifier: GPL-2.0-only
"""Everything a run needs, made ready once: machine config, QEMU, accelerator, kernel, guest image."""

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import cast, get_args

from harness import config, image, kernel, vm
from harness.bugs import Mutation, load_bug
from harness.cases.suites import DEFAULT_SUITE
from harness.errors import GuestLost, HarnessError, UsageError
from harness.kernel import Flavour, Series, SourceChange, SourceChanges
from harness.progress import Emit, Note
from harness.session import MAINLINE, ExportUapi, Session


@dataclass(frozen=True)
class Options:
    """What the user chose; None means the default. ``series``: the patches to apply to the kernel's source, as SERIES=
    takes them. ``mutation``: the bug of the catalogue to put back into it, after them.
    ``gdb``: the port of QEMU's gdb stub on 127.0.0.1. ``suite``: the cases that run; ``seed``: of their dice."""

    machine: str = "intel-iommu"
    kernel: str | None = None
    flavour: Flavour = "release"
    accel: str = "auto"
    qemu: Path | None = None
    series: str | None = None
    mutation: str | None = None
    gdb: int | None = None
    suite: str = DEFAULT_SUITE
    seed: int | None = None

    def change(self, emit: Emit) -> SourceChange | None:
        """What is to be changed in the kernel's source. Raises what ``Series.load`` and the catalogue do."""
        parts: list[SourceChange] = [Series.load(self.series, emit)] if self.series else []
        parts += [Mutation.of(load_bug(self.mutation))] if self.mutation else []
        return SourceChanges(parts) if parts[1:] else next(iter(parts), None)

    def arguments(self) -> list[str]:
        """The options of ``vfio-harness run``, and of the pytest plugin, that choose the same."""
        return [f"--{name}={value}" for name, value in vars(self).items() if value is not None]

    def make_variables(self) -> dict[str, str]:
        """What differs from the defaults, as variables of ``make vm-test``."""
        chosen = {name: str(value) for name, value in vars(self).items() if value != getattr(Options, name)}
        left_out = ("gdb", "seed") if self.suite == DEFAULT_SUITE else ("gdb",)
        return {name.upper(): value for name, value in chosen.items() if name not in left_out}


@dataclass(frozen=True)
class Setup:
    """A kernel, an image and a machine that have been made ready; ``boot`` makes a session of them."""

    options: Options
    machine: config.MachineConfig
    qemu: vm.Qemu
    accel: vm.Accel
    kernel: kernel.Kernel
    image: image.GuestImage
    emit: Emit

    @classmethod
    def prepare(cls, options: Options, emit: Emit) -> "Setup":
        """Make everything ready, cheapest first, so that a typing mistake costs no kernel build.

        Raises HarnessError and its kinds; nothing is left running.
        """
        machine = config.load_machine(options.machine)
        qemu = vm.Qemu.probe(options.qemu)
        vm.settle(machine, qemu)  # for its errors
        spec = kernel.KernelSpec(kernel=options.kernel, flavour=options.flavour, change=options.change(emit))
        built = kernel.obtain(spec, emit)
        guest = image.obtain(emit)
        accel = vm.choose_accel(options.accel, qemu, built.image, emit)
        emit(Note(f"kernel   {built.release} ({built.origin}), {options.flavour}"))
        for patch in built.patches:
            emit(Note(f"patch    {patch}"))
        emit(Note(f"machine  {machine.name}: {qemu.banner}, {accel.name}"))
        return cls(options, machine, qemu, accel, built, guest, emit)

    def boot_files(self) -> vm.Boot:
        """What QEMU boots."""
        return vm.Boot(
            kernel=self.kernel.image,
            modules=self.kernel.modules_image,
            root=self.image.root,
            ssh_key=self.image.ssh_key,
            host_key=self.image.host_key,
        )

    def machine_in(self, rundir: Path) -> vm.Machine:
        """A machine, not started yet, that writes into ``rundir``."""
        return vm.Machine(
            self.machine, self.boot_files(), self.qemu, self.accel, rundir, emit=self.emit, gdb_port=self.options.gdb
        )

    def session_on(self, machine: vm.Machine) -> Session:
        """A session that speaks to the kernel in its own uAPI."""
        cdev = self.kernel.features["vfio_cdev"]
        return Session(machine, export_uapi=self.export_uapi(), interface=None if cdev else "group")

    def export_uapi(self) -> ExportUapi:
        """What the kernel's header says; mainline's, where it cannot be found."""
        found = self.kernel.uapi
        return ExportUapi(self.kernel.origin, found.number, found.layout == "single") if found else MAINLINE

    def lacks(self, capability: str) -> str:
        """Why machine or kernel cannot show what needs the capability; empty if they can.

        UsageError if there is no such capability."""
        if capability not in {*get_args(config.Capability), *self.kernel.features}:
            raise UsageError(f"no machine and no kernel has a capability {capability!r}")
        if reason := self.machine.lacks.get(cast(config.Capability, capability)):
            return f"{self.machine.name} lacks {capability}: {reason}"
        if self.kernel.features.get(capability, True):
            return ""
        return f"this kernel lacks {capability}: {kernel.lacking(self.kernel, capability)}"


class SessionPool:
    """Boots a session when one is asked for and keeps it for the next case until it is discarded.

    ``directory`` receives one subdirectory a machine: command line, console, trace, QEMU's stderr. Pools of several
    processes may share it.
    """

    def __init__(self, setup: Setup, directory: Path) -> None:
        self._rig = setup
        self._directory = directory
        self._stack = ExitStack()
        self._failed: HarnessError | GuestLost | None = None
        self.current: Session | None = None

    def get(self) -> Session:
        """The running session, or a freshly booted one. Raises what a boot raises."""
        if self._failed:
            failed, self._failed = self._failed, None
            raise failed
        if self.current is None:
            machine = self._rig.machine_in(self._new_directory())
            with ExitStack() as stack:
                self.current = stack.enter_context(self._rig.session_on(stack.enter_context(machine)))
                self._stack = stack.pop_all()
        return self.current

    def warm(self) -> None:
        """Boot a session before it is asked for. Who asks for it gets what the boot raises."""
        try:
            self.get()
        except (HarnessError, GuestLost) as error:
            self._failed = error

    def _new_directory(self) -> Path:
        for number in count(1):
            path = self._directory / f"machine-{number}"
            try:
                with suppress(FileExistsError):
                    path.mkdir()
                    break
            except OSError as error:
                raise HarnessError(f"{path}: {error.strerror}") from None
        return path

    def discard(self) -> None:
        """End the session, so that the next case gets a fresh machine."""
        self.current = None
        self._stack.close()
