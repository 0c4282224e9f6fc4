# SPDX-License-Identifier: GPL-2.0-only
"""The processor architectures of machines: ``vm-configs/architectures.yaml`` as a model."""

import platform
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Literal

from pydantic import StringConstraints

from harness import paths
from harness.config.loader import Model, load

ArchName = Literal["x86_64", "arm64"]
DEFAULT_ARCH: ArchName = "x86_64"


class QemuProgram(Model):
    """The QEMU that emulates an architecture."""

    program: str
    """Its name in PATH."""
    package: str
    """Debian's package."""


class KernelBuild(Model):
    """How Kbuild makes a kernel."""

    arch: str
    """ARCH of make, and the directory of the architecture's sources."""
    option: str
    """The option that every kernel of the architecture has, without CONFIG_."""
    image: str
    """The file that QEMU boots, relative to the build directory."""
    target: str
    """The target of make that builds ``image``."""
    fragment: str = ""
    """A fragment that overrides the flavour's."""


class Architecture(Model):
    """One architecture."""

    hosts: tuple[str, ...]
    """``uname -m`` of the hosts that run its programs."""
    gnu: str
    """GNU's triplet."""
    debian: str
    """Debian's name."""
    qemu: QemuProgram
    """The QEMU that emulates it."""
    kernel: KernelBuild
    """How Kbuild makes its kernel."""
    console: str
    """The device of the serial console."""
    interrupts: Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]+$")]
    """The first address of ``interrupt_range``."""
    kernel_args: tuple[str, ...] = ()
    """Arguments of every kernel."""
    kvm: bool
    """Whether KVM has been tried with it."""

    @property
    def interrupt_range(self) -> range:
        """The addresses that no device may use for DMA, because they are those of interrupts."""
        start = int(self.interrupts, 16)
        return range(start, start + 0x100000)

    @property
    def is_native(self) -> bool:
        """Whether this host runs its programs."""
        return platform.machine() in self.hosts

    def tool(self, name: str) -> str:
        """Return the name of a compiler or binutils program for it: ``gcc``, ``aarch64-linux-gnu-gcc``."""
        return name if self.is_native else f"{self.gnu}-{name}"

    @property
    def make_variables(self) -> tuple[str, ...]:
        """The variables of make that build it on this host. None on its own: every recorded command would change."""
        return () if self.is_native else (f"ARCH={self.kernel.arch}", f"CROSS_COMPILE={self.gnu}-")


class _File(Model):
    architectures: Mapping[ArchName, Architecture]


@cache
def architectures() -> Mapping[ArchName, Architecture]:
    """Read architectures.yaml, once, and return each architecture by its name."""
    return load(paths.VM_CONFIGS / "architectures.yaml", _File).architectures


def architecture(name: ArchName) -> Architecture:
    """Return the architecture of that name."""
    return architectures()[name]


def arch_of(config: Mapping[str, str]) -> ArchName:
    """Return the architecture of a kernel with these options. A kernel of no known one counts as the default's."""
    return next((name for name, each in architectures().items() if each.kernel.option in config), DEFAULT_ARCH)


def native() -> ArchName:
    """Return the architecture of this host; the default if it is none of the table."""
    return next((name for name, each in architectures().items() if each.is_native), DEFAULT_ARCH)
