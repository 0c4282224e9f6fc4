# SPDX-License-Identifier: GPL-2.0-only
"""Kernel configurations: the fragments that the harness builds with, a finished .config, and the required options."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from pydantic import Field

from harness.config import DEFAULT_ARCH, ArchName, Model, arch_of, architecture, load
from harness.errors import KernelLacksFeature, UsageError
from harness.kernel.model import Flavour
from harness.paths import GUEST_IMAGES

DATA = GUEST_IMAGES / "kernel"
REQUIREMENTS = DATA / "requirements.yaml"
_FRAGMENTS: Mapping[Flavour, tuple[str, ...]] = {
    "release": ("base.config",),
    "debug": ("base.config", "debug.config", "fault-injection.config"),
    "coverage": ("base.config", "coverage.config", "fault-injection.config"),
    "selftest": ("base.config", "fault-injection.config", "selftest.config"),
}
_SET = re.compile(r"CONFIG_(\w+)=(.+)$")
_UNSET = re.compile(r"# CONFIG_(\w+) is not set$")


class Requirement(Model):
    """An option that every kernel must have."""

    any: list[str]
    """One of these options must be set."""
    builtin: bool = False
    """Whether it must be y; otherwise m will do."""
    needs: list[str] = Field(default_factory=list)
    """Options that it depends on, for the message."""
    since: str | None = None
    """The first release that has the option."""
    arch: ArchName | None = None
    """The only architecture whose kernels need it; None for all."""
    why: str
    """What the harness needs it for."""


class Modules(Model):
    """The modules that a machine gets, by name (with underscores)."""

    boot: list[str]
    """Loaded at boot."""
    on_demand: list[str]
    """In the image, loaded by the cases that need them."""


class KernelFeature(Model):
    """A capability of a kernel.

    Present if every option in ``all``, one in ``any``, and every string in ``source`` is found."""

    all: list[str] = Field(default_factory=list)
    """Options that must all be set."""
    any: list[str] = Field(default_factory=list)
    """Options of which one must be set, unless the list is empty."""
    source: dict[str, str] = Field(default_factory=dict)
    """A string that must be in the file of this path. Without a source, ``since`` decides."""
    since: str = ""
    """The first release with the strings, for a kernel without a source; empty for any."""
    lacking: str = ""
    """The reason for skipping cases on a kernel without the feature; empty for the names of the options."""
    fragment: str = ""
    """A fragment that a kernel is also configured with if its source lacks the strings."""
    own_fragment: str = ""
    """A fragment that a kernel is also configured with if its source has the strings.

    Other kernels keep their configuration, and so their builds."""

    def in_config(self, config: Mapping[str, str]) -> bool:
        """Check the options."""
        return config.keys() >= set(self.all) and (not self.any or not config.keys().isdisjoint(self.any))

    def in_release(self, release: str) -> bool:
        """Check that a kernel of this release (``7.4.0-rc1``) may have the strings."""
        return _numbers(release) >= _numbers(self.since)

    def in_source(self, top: Path) -> bool:
        """Check the strings."""
        files = ((top / name, word) for name, word in self.source.items())
        return all(file.is_file() and word in file.read_text(errors="replace") for file, word in files)


def _numbers(release: str) -> tuple[int, ...]:
    """Return the first two numbers of a release, which name its series; fewer if it has fewer."""
    return tuple(map(int, re.findall(r"\d+", release.partition("-")[0])[:2]))


class Requirements(Model):
    """guest-images/kernel/requirements.yaml."""

    required: list[Requirement]
    """What every kernel must have."""
    features: dict[str, KernelFeature]
    """What some kernels have, by the name of the capability."""
    modules: Modules
    """The modules image's content."""


@cache
def requirements() -> Requirements:
    """Read requirements.yaml, once."""
    return load(REQUIREMENTS, Requirements)


def parse(lines: Iterable[str], name: str) -> dict[str, str]:
    """Return the options of a .config or fragment, without CONFIG_. An option that is off is ``n``.

    Raises UsageError naming file and line for anything else but comments."""
    options: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if match := _SET.match(text):
            options[match[1]] = match[2]
        elif match := _UNSET.match(text):
            options[match[1]] = "n"
        elif text and not text.startswith("#"):
            raise UsageError(f"{name}:{number}: not a kernel option: {text[:80]}")
    return options


def fragment(flavour: Flavour, source: Path, arch: ArchName = DEFAULT_ARCH) -> str:
    """Return the options for a flavour of this source, as KCONFIG_ALLCONFIG reads them. A later fragment overrides."""
    merged: dict[str, str] = {}
    features = [each for each in requirements().features.values() if each.fragment or each.own_fragment]
    chosen = (each.own_fragment if each.in_source(source) else each.fragment for each in features)
    for name in filter(None, [*_FRAGMENTS[flavour], architecture(arch).kernel.fragment, *chosen]):
        merged |= parse((DATA / name).read_text().splitlines(), name)
    return "".join(f"CONFIG_{name}={value}\n" for name, value in merged.items())


def read(dot_config: Path) -> dict[str, str]:
    """Return the options that are on in a finished .config."""
    options = parse(dot_config.read_text(errors="replace").splitlines(), str(dot_config))
    return {name: value for name, value in options.items() if value != "n"}


def unmet(config: Mapping[str, str], required: Sequence[Requirement]) -> list[str]:
    """Return one sentence for each requirement of its architecture that this configuration does not meet."""
    own = [each for each in required if each.arch in (None, arch_of(config))]
    return [_sentence(config, each) for each in own if not any(_meets(config, name, each) for name in each.any)]


def _meets(config: Mapping[str, str], option: str, requirement: Requirement) -> bool:
    return config.get(option) in (("y",) if requirement.builtin else ("y", "m"))


def _sentence(config: Mapping[str, str], requirement: Requirement) -> str:
    value = "y" if requirement.builtin else "m"
    text = " or ".join(f"CONFIG_{option}={value}" for option in requirement.any) + f": {requirement.why}"
    modular = [option for option in requirement.any if config.get(option) == "m"]
    off = [f"CONFIG_{option}" for option in requirement.needs if option not in config]
    notes = [f"{', '.join(modular)} is only a module"] if modular else []
    notes += [f"it depends on {', '.join(off)}, which is off"] if off else []
    notes += [f"Linux has the option since {requirement.since}"] if requirement.since else []
    return f"{text} ({'; '.join(notes)})" if notes else text


def require(config: Mapping[str, str], origin: str) -> None:
    """Raise KernelLacksFeature that lists every required option this kernel lacks."""
    missing = unmet(config, requirements().required)
    if missing:
        raise KernelLacksFeature(
            f"{origin} lacks options that the cases need:\n" + "\n".join(f"  {sentence}" for sentence in missing),
            origin=origin,
            hint="set these options and build it again, or give the source tree: it is configured for you",
        )
