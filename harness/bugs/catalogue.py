# SPDX-License-Identifier: GPL-2.0-only
"""The catalogue of reported bugs: ``vm-configs/bugs``, one file per bug."""

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
    """How the bug is put back into a kernel that does not have it. Exactly one of ``cocci`` and ``patch`` is given."""

    files: Annotated[list[str], Field(min_length=1)]
    """The files that it changes, relative to the source."""
    functions: Annotated[list[str], Field(min_length=1)]
    """The functions that it changes: all of them and no others. ``(file)`` is code outside functions."""
    kernels: Releases
    """The releases to which it applies."""
    cocci: str | None = None
    """A semantic patch for spatch (Coccinelle)."""
    patch: str | None = None
    """A unified diff."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.cocci is None) == (self.patch is None):
            raise ValueError("a mutation has either cocci or patch")
        return self


class Commit(Model):
    """A commit of Linux."""

    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{12,40}$")]
    """At least 12 hex digits."""
    subject: str
    """Its subject."""

    def __str__(self) -> str:
        """Name it as a Fixes: line does."""
        return f'{self.commit[:12]} ("{self.subject}")'


class UpstreamFix(Model):
    """The commit that fixed a bug upstream."""

    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{12,40}$")] | None = None
    """At least 12 hex digits. None: it is not known here, only that later releases have the change."""
    subject: str
    """Its subject, or what it changes if the commit is not known."""
    code: dict[str, str] = Field(default_factory=dict)
    """The code that it repairs: a string in each of these files of the source. It is not applicable to a source that
    lacks one."""

    def __str__(self) -> str:
        """Name it as a log does: commit and subject."""
        return f"{self.commit} {self.subject}" if self.commit else self.subject

    def lacking(self, source: Path) -> str:
        """Return the first file of ``code`` that lacks its string in a source tree; empty if none does."""
        for name, text in self.code.items():
            file = source / name
            if not file.is_file() or text not in file.read_text(encoding="utf-8", errors="replace"):
                return f"{name} has no {text}"
        return ""


class Expectation(Model):
    """The verdict of the cases on a kernel that has the bug."""

    verdict: Verdict
    """The verdict of at least one of ``cases``. PASS: the bug was refuted, and the cases guard against it."""
    cases: Annotated[list[str], Field(min_length=1)]
    """The ids of the cases. ``*`` matches any text."""
    reason: re.Pattern[str] = re.compile("")
    """A pattern found in the reason of that verdict."""

    def concerns(self, case_id: str) -> bool:
        """Return whether ``cases`` names the case."""
        return matches(self.cases, case_id)

    def unknown_cases(self, case_ids: Iterable[str]) -> list[str]:
        """Return the entries of ``cases`` that match none of ``case_ids``."""
        ids = list(case_ids)
        return [case for case in self.cases if not any(matches([case], case_id) for case_id in ids)]


class Bug(Model):
    """One reported bug."""

    id: Id
    """The name of the file, without ``.yaml``."""
    title: str
    """The bug in one line."""
    reporter: str
    """Who reported it."""
    date: Annotated[str, Field(pattern=r"^\d{4}(-\d\d){0,2}$")]
    """When it was reported: ISO 8601, as precise as known."""
    thread: str
    """Where it was reported: message-id, subject, CVE or place in the source."""
    affected: str
    """The releases, or versions of the series, that had the bug."""
    fixed: str
    """The release, or version of the series, that fixed it."""
    introduced_by: Commit | None = None
    """The commit that introduced it, for the Fixes: line of a patch."""
    kernels: Releases | None = None
    """The releases that have the bug. None: no release has it."""
    symptom: str
    """What goes wrong."""
    trigger: str
    """How to provoke it."""
    expects: Expectation
    """What the cases report."""
    machine: str = DEFAULT_MACHINE
    """The machine on which the cases show it."""
    survives_on: tuple[str, ...] = ()
    """Machines whose cases do not show it: they pass with the bug put back, or never reach a state in which it makes a
    difference (tests/robustness/test_reach.py). ``vfio-harness mutants --elsewhere`` runs them."""
    flavour: Literal["release", "debug"] = "release"
    """The flavour of the kernel on which the cases show it."""
    kernel: str | None = None
    """A value of KERNEL= that shows it without a mutation."""
    mutation: MutationData | None = None
    """How to put it back."""
    fix: str | None = None
    """The name of a patch next to the file, for a bug that is live."""
    fixed_by: tuple[UpstreamFix, ...] = ()
    """What fixed it upstream. ``vfio-harness audit`` asks a kernel for each."""

    def on(self, machine: str) -> "Bug":
        """Return the bug as it is on a machine where it survives: no case blames the kernel."""
        nothing = self.expects.model_copy(update={"verdict": Verdict.PASS})
        return self.model_copy(update={"machine": machine, "expects": nothing})

    @property
    def path(self) -> Path:
        """The file of the entry."""
        return paths.bugs_dir() / f"{self.id}.yaml"

    @property
    def fix_path(self) -> Path | None:
        """The patch of ``fix``."""
        return self.path.parent / self.fix if self.fix else None

    @property
    def must_pass(self) -> bool:
        """Whether its cases must pass: the bug was refuted, or it survives on its machine (see ``on``)."""
        return self.expects.verdict is Verdict.PASS

    def is_in(self, release: str) -> bool:
        """Return whether a kernel of that release has the bug without a mutation."""
        return self.kernels is not None and includes(self.kernels, release)


def load_bugs() -> list[Bug]:
    """Load all entries, sorted by id. Raises UsageError naming file, line and key, or the missing directory."""
    if not paths.bugs_dir().is_dir():
        raise UsageError(f"VFIO_HARNESS_BUGS={paths.bugs_dir()}: no such directory")
    found = [_read(path) for path in sorted(paths.bugs_dir().glob("*.yaml"))]
    return sorted(found, key=lambda bug: bug.id)


def load_bug(name: str) -> Bug:
    """Load the entry with the id ``name``. Raises UsageError that suggests the closest id if there is none."""
    directory = paths.bugs_dir()
    path = directory / f"{name}.yaml"
    if not re.fullmatch(r"[a-z0-9-]+", name) or not path.is_file():
        known = [path.stem for path in directory.glob("*.yaml")]
        raise UsageError(f"no bug {name!r} in {directory}{nearest(name, known)}", hint="vfio-harness bugs list")
    return _read(path)


def _read(path: Path) -> Bug:
    entry = load(path, Bug)
    if entry.id != path.stem:
        raise UsageError(f"{path}: id: is {entry.id!r}, but must be the name of the file, {path.stem!r}")
    return entry


def as_json(found: list[Bug]) -> str:
    """Return the entries as JSON, with the keys of the files."""
    return TypeAdapter(list[Bug]).dump_json(found, indent=2).decode()


def as_text(found: list[Bug]) -> str:
    """Return two lines per bug: its title and reporter, then the cases that show it."""
    width = max((len(entry.id) for entry in found), default=0)
    return "\n".join(
        f"{entry.id:{width}}  {entry.title} ({entry.reporter}, {entry.date})\n"
        f"{'':{width}}  {entry.expects.verdict} of {', '.join(entry.expects.cases)}"
        for entry in found
    )


def as_yaml(entry: Bug) -> str:
    """Return one whole entry as YAML."""
    data = entry.model_dump(mode="json", exclude_none=True)
    return yaml.dump(data, Dumper=_BlockDumper, sort_keys=False, allow_unicode=True, width=110).rstrip()


class _BlockDumper(yaml.SafeDumper):
    """Dumps text as the files have it: code as a literal block, paragraphs as a folded one."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    several_lines, paragraph = "\n" in text.rstrip(), text.endswith("\n")
    style = "|" if several_lines else ">" if paragraph else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_BlockDumper.add_representer(str, _text)
