# SPDX-License-Identifier: GPL-2.0-only
"""The tests of the kernel's own tree that the harness runs (vm-configs/kernel-tests.yaml)."""

from collections.abc import Mapping
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
    device: str | None = None
    """The id of the PCI device whose address is the argument of each program; None for no argument."""
    on: Mapping[str, str] = Field(default_factory=dict)
    """The device instead of ``device``, by the name of the machine."""
    needs: tuple[str, ...] = ()
    """Features of the kernel, without which its programs are SKIP."""
    host: tuple[str, ...] = ()
    """The files of packages.txt that building them needs beside a kernel's build."""
    seconds: float = Field(gt=0)
    """How long a program may run, for a slowdown of 1."""
    huge_pages: int = Field(default=0, ge=0)
    """How many huge pages are reserved while a program runs."""
    programs: Annotated[tuple[str, ...], Field(min_length=1)]

    def device_on(self, machine: str) -> str | None:
        """Return the id of the device that the programs get on a machine; None for none."""
        return self.on.get(machine, self.device)


class KernelTests(Model):
    """The file."""

    suites: dict[str, Suite]


@dataclass(frozen=True)
class Program:
    """One program of a suite."""

    suite: str
    name: str
    tests: Suite
    """The suite's description."""

    def __str__(self) -> str:
        return f"{self.suite}-{self.name}"


def suites() -> dict[str, Suite]:
    """Return each suite. Raises UsageError naming file, line and key."""
    return load(PATH, KernelTests).suites


def programs() -> list[Program]:
    """Return each program, in the order of the file. Raises UsageError naming file, line and key."""
    return [Program(suite, name, tests) for suite, tests in suites().items() for name in tests.programs]
