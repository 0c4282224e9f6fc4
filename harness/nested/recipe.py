# SPDX-License-Identifier: GPL-2.0-only
"""``vm-configs/kvm-test.yaml`` as a model."""

from pathlib import Path

from pydantic import Field

from harness import config
from harness.config import Model
from harness.paths import GUEST_IMAGES, VM_CONFIGS

PATH = VM_CONFIGS / "kvm-test.yaml"
INIT = GUEST_IMAGES / "nested" / "init"


class Packages(Model):
    """What the emulated machine boots: Debian packages, and what of them it loads."""

    suite: str
    """The Debian release of its kernel."""
    mirror: str
    """Where packages are fetched from."""
    keyring: str
    """The file with the archive's keys."""
    packages: list[str]
    """Its packages; their dependencies are unpacked too."""
    modules: list[str]
    """The kernel's modules to load, in this order; those that they need come first."""


class Outer(Model):
    """The emulated machine."""

    image: Packages
    """Its kernel and busybox."""
    cpu: str
    """QEMU's CPU model."""
    vcpus: int = Field(ge=1)
    memory_mib: int = Field(ge=1024)
    """Its memory beside that of the machine under test."""


class KvmTest(Model):
    """``kvm-test.yaml``."""

    qemu: str
    """QEMU= of both machines unless the user names another."""
    outer: Outer
    """The emulated machine."""
    cpu_features: str
    """The value of CPU_FEATURES= for the runs inside."""
    required: list[str] = Field(min_length=1)
    """The files of tests/vm, or cases of theirs, that must be judged before the deadline."""
    short: list[str] = Field(min_length=1)
    """Those of ``--short``."""

    def requires(self, case: str) -> bool:
        """Return whether ``required`` names the case with this id, its function or its file."""
        module, _, name = case.partition("::")
        file = f"{module}.py"
        return not {file, f"{file}::{name}", f"{file}::{name.partition('[')[0]}"}.isdisjoint(self.required)


def load(path: Path = PATH) -> KvmTest:
    """Read the recipe. Raises UsageError that names file, line and key."""
    return config.load(path, KvmTest)
