# SPDX-License-Identifier: GPL-2.0-only
"""The tests of the kernel's own tree that the harness runs (vm-configs/kernel-tests.yaml)."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from harness import paths
from harness.config import Model, load

PATH = paths.VM_CONFIGS / "kernel-tests.yaml"


class Suite(Model):
    """Programs that one directory of the kernel's source builds."""

    directory: str
    """Relative to the top of the source."""
    device: str
    """The id of the PCI device whose address is the argument of each program."""
    programs: Annotated[list[str], Field(min_length=1)]


class KernelTests(Model):
    """The file."""

    suites: dict[str, Suite]


@dataclass(frozen=True)
class Program:
    """One program of a suite."""

    suite: str
    name: str
    directory: str
    device: str

    def __str__(self) -> str:
        return f"{self.suite}-{self.name}"


def programs() -> list[Program]:
    """Return each program, in the order of the file. Raises UsageError naming file, line and key."""
    return [
        Program(suite, name, tests.directory, tests.device)
        for suite, tests in load(PATH, KernelTests).suites.items()
        for name in tests.programs
    ]
