# SPDX-License-Identifier: GPL-2.0-only
"""Kernel configurations: the fragments we build with, a finished .config, and what it must have."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

from harness.errors import KernelLacksFeature, UsageError
from harness.kernel.model import Flavour
from harness.paths import GUEST_IMAGES

DATA = GUEST_IMAGES / "kernel"
_FRAGMENTS: Mapping[Flavour, tuple[str, ...]] = {
    "release": ("base.config",),
    "debug": ("base.config", "debug.config"),
}
_SET = re.compile(r"CONFIG_(\w+)=(.+)$")
_UNSET = re.compile(r"# CONFIG_(\w+) is not set$")


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Requirement(_Data):
    """One option of ``any`` must be set, to y if ``builtin``."""

    any: list[str]
    builtin: bool = False
    needs: list[str] = Field(default_factory=list)
    since: str | None = None
    why: str


class Modules(_Data):
    """Modules by name (with underscores): ``boot`` loads them always, ``on_demand`` are only there."""

    boot: list[str]
    on_demand: list[str]


class KernelFeature(_Data):
    """A capability: there if ``all`` these options are set and, unless it is empty, one of ``any``; and if the source,
    where there is one, has in these files (by path) these words. ``lacking``: what to say of a kernel without it;
    ``fragment``: what a kernel whose source has not these words is configured with besides."""

    all: list[str] = Field(default_factory=list)
    any: list[str] = Field(default_factory=list)
    source: dict[str, str] = Field(default_factory=dict)
    lacking: str = ""
    fragment: str = ""

    def in_source(self, top: Path) -> bool:
        """Whether the source has the words."""
        files = ((top / name, word) for name, word in self.source.items())
        return all(file.is_file() and word in file.read_text(errors="replace") for file, word in files)


class Requirements(_Data):
    """guest-images/kernel/requirements.yaml."""

    required: list[Requirement]
    features: dict[str, KernelFeature]
    modules: Modules


@cache
def requirements() -> Requirements:
    """What a kernel must have, and how its capabilities are known."""
    return Requirements.model_validate(yaml.safe_load((DATA / "requirements.yaml").read_text()))


def parse(lines: Iterable[str], name: str) -> dict[str, str]:
    """Options of a .config or fragment, without CONFIG_; an option that is off (n, or "is not set") is ``n``.

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


def fragment(flavour: Flavour, source: Path) -> str:
    """The wishes for a flavour of this source, merged: what KCONFIG_ALLCONFIG reads. A later file overrides an earlier
    one."""
    merged: dict[str, str] = {}
    missing = [each for each in requirements().features.values() if each.fragment and not each.in_source(source)]
    for name in [*_FRAGMENTS[flavour], *(each.fragment for each in missing)]:
        merged |= parse((DATA / name).read_text().splitlines(), name)
    return "".join(f"CONFIG_{name}={value}\n" for name, value in merged.items())


def read(dot_config: Path) -> dict[str, str]:
    """The options that are on in a finished .config."""
    options = parse(dot_config.read_text(errors="replace").splitlines(), str(dot_config))
    return {name: value for name, value in options.items() if value != "n"}


def unmet(config: Mapping[str, str], required: Sequence[Requirement]) -> list[str]:
    """One sentence for each requirement this configuration does not meet; empty if all are met."""
    return [_sentence(config, r) for r in required if not any(_meets(config, option, r) for option in r.any)]


def _meets(config: Mapping[str, str], option: str, requirement: Requirement) -> bool:
    return config.get(option) in (("y",) if requirement.builtin else ("y", "m"))


def _sentence(config: Mapping[str, str], requirement: Requirement) -> str:
    value = "y" if requirement.builtin else "m"
    text = " or ".join(f"CONFIG_{option}={value}" for option in requirement.any) + f": {requirement.why}"
    modular = [option for option in requirement.any if config.get(option) == "m"]
    first = [f"CONFIG_{option}" for option in requirement.needs if option not in config]
    notes = [f"{', '.join(modular)} is only a module"] if modular else []
    notes += [f"it depends on {', '.join(first)}, which is off"] if first else []
    notes += [f"the option is in Linux since {requirement.since}"] if requirement.since else []
    return f"{text} ({'; '.join(notes)})" if notes else text


def require(config: Mapping[str, str], origin: str) -> None:
    """Raises KernelLacksFeature that names every option this kernel lacks."""
    missing = unmet(config, requirements().required)
    if missing:
        raise KernelLacksFeature(
            f"{origin} lacks what the cases need:\n" + "\n".join(f"  {sentence}" for sentence in missing),
            origin=origin,
            hint="set these options and build it again, or give the source tree: it is configured for you",
        )
