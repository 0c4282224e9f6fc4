# SPDX-License-Identifier: GPL-2.0-only
"""The catalogue of reported bugs (vm-configs/bugs, one file a bug): who said what, and how to see it."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import Field, TypeAdapter, model_validator

from harness import paths
from harness.config import DEFAULT_MACHINE, Model, Releases, includes, load, matches
from harness.config.loader import nearest
from harness.errors import UsageError
from harness.verdict import Verdict

Id = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


class MutationData(Model):
    """How the bug is put back into a kernel that does not have it: one of ``cocci``, a semantic patch for spatch, and
    ``patch``, a unified diff.

    ``files``: what it changes, relative to the source. ``functions``: the only ones that may differ afterwards, and
    all of them must. ``kernels``: the releases it is for."""

    files: Annotated[list[str], Field(min_length=1)]
    functions: Annotated[list[str], Field(min_length=1)]
    kernels: Releases
    cocci: str | None = None
    patch: str | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.cocci is None) == (self.patch is None):
            raise ValueError("a mutation has either cocci or patch")
        return self


class Expectation(Model):
    """``verdict``: of at least one of ``cases`` (``*`` is any text) where the bug is; ``reason`` is found in what it
    says. PASS is for what was refuted: the cases that guard against it."""

    verdict: Verdict
    cases: Annotated[list[str], Field(min_length=1)]
    reason: re.Pattern[str] = re.compile("")

    def concerns(self, case_id: str) -> bool:
        """Whether the case is one of those named."""
        return matches(self.cases, case_id)

    def unknown_cases(self, case_ids: Iterable[str]) -> list[str]:
        """What is named in ``cases``, and is none of these."""
        ids = list(case_ids)
        return [case for case in self.cases if not any(matches([case], case_id) for case_id in ids)]


class Bug(Model):
    """One report.

    ``date``: ISO 8601, as precise as it is known. ``thread``: message-id or subject. ``kernels``: the releases that
    have the bug; empty if it never was in one. ``fixed``: the release or the version of the series that mends it.
    ``machine`` and ``flavour``: where it shows. ``kernel``: what KERNEL= takes to see it without a mutation.
    ``fix``: a patch beside the file, for a bug that is live."""

    id: Id
    title: str
    reporter: str
    date: Annotated[str, Field(pattern=r"^\d{4}(-\d\d){0,2}$")]
    thread: str
    affected: str
    fixed: str
    kernels: Releases | None = None
    symptom: str
    trigger: str
    expects: Expectation
    machine: str = DEFAULT_MACHINE
    flavour: Literal["release", "debug"] = "release"
    kernel: str | None = None
    mutation: MutationData | None = None
    fix: str | None = None

    @property
    def path(self) -> Path:
        """The file."""
        return paths.bugs_dir() / f"{self.id}.yaml"

    def is_in(self, release: str) -> bool:
        """Whether a kernel of that release has the bug by itself."""
        return self.kernels is not None and includes(self.kernels, release)


def load_bugs() -> list[Bug]:
    """Every entry, by id. Raises UsageError naming file, line and key."""
    found = [_read(path) for path in sorted(paths.bugs_dir().glob("*.yaml"))]
    return sorted(found, key=lambda bug: bug.id)


def load_bug(name: str) -> Bug:
    """The entry of that id. Raises UsageError with the nearest one if there is none."""
    directory = paths.bugs_dir()
    path = directory / f"{name}.yaml"
    if not re.fullmatch(r"[a-z0-9-]+", name) or not path.is_file():
        known = [path.stem for path in directory.glob("*.yaml")]
        raise UsageError(f"no bug {name!r} in {directory}{nearest(name, known)}", hint="vfio-harness bugs list")
    return _read(path)


def _read(path: Path) -> Bug:
    entry = load(path, Bug)
    if entry.id != path.stem:
        raise UsageError(f"{path}: id: is {entry.id!r}, and the file's name says {path.stem!r}")
    return entry


def as_json(found: list[Bug]) -> str:
    """The entries as the files have them."""
    return TypeAdapter(list[Bug]).dump_json(found, indent=2).decode()


def as_text(found: list[Bug]) -> str:
    """A line for each bug, and one for what shows it."""
    width = max((len(entry.id) for entry in found), default=0)
    return "\n".join(
        f"{entry.id:{width}}  {entry.title} ({entry.reporter}, {entry.date})\n"
        f"{'':{width}}  {entry.expects.verdict} of {', '.join(entry.expects.cases)}"
        for entry in found
    )


def as_yaml(entry: Bug) -> str:
    """All of one entry, as YAML."""
    data = entry.model_dump(mode="json", exclude_none=True)
    return yaml.dump(data, Dumper=_Blocks, sort_keys=False, allow_unicode=True, width=110).rstrip()


class _Blocks(yaml.SafeDumper):
    """Text of several lines as it is."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text.rstrip() else None)


_Blocks.add_representer(str, _text)
