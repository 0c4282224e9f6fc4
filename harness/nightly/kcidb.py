# SPDX-License-Identifier: GPL-2.0-only
"""``kcidb.json``: a night in KCIDB's schema v5.3, the format of the dashboards of KernelCI. Nothing is sent.

The schema is kcidb_io/schema/v05_03.py of https://github.com/kernelci/kcidb-io. No property may be null. FAIL says that
the kernel is at fault, MISS that the test did not run because the harness or the host failed, and ERROR that the test's
own code failed.
"""

import builtins
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import KernelError
from harness.escape import printable
from harness.nightly.again import command
from harness.nightly.cells import CellVerdicts, NightVerdicts, Ran
from harness.nightly.excerpt import last_observations, splat_lines
from harness.nightly.record import Cell
from harness.report.parts import MISS
from harness.report.record import write_report
from harness.run.known_issues import KnownIssue, catalogue
from harness.verdict import (
    KERNEL_AT_FAULT,
    BuildRecord,
    CaseRecord,
    GitRecord,
    PatchRecord,
    RunRecord,
    Verdict,
)

FILE = "kcidb.json"
VERSION = {"major": 5, "minor": 3}
ORIGIN = "vfio_harness"
"""The name of the CI system: letters, digits and underscores."""
SUITE = "vfio_dmabuf"
"""The first component of each test's path, which KCIDB's catalogue of tests must know."""
MAX_EXCERPT = 16384
"""Characters of a log excerpt: the schema's limit."""
MAX_OBSERVATIONS = 40
MAX_SPLAT_LINES = 100
LINE = 300
"""Characters of a line of an excerpt."""
ISSUE_VERSION = 1
NOT_BUILT = "not built"
"""The release in the record of a kernel without the export."""

_STATUSES: Mapping[Verdict, str] = {
    Verdict.PASS: "PASS",
    Verdict.FIXED: "PASS",
    Verdict.KNOWN: "FAIL",
    Verdict.SKIP: "SKIP",
    Verdict.ERROR: MISS,
    **dict.fromkeys(KERNEL_AT_FAULT, "FAIL"),
}
_OTHER = re.compile(r"[^a-zA-Z0-9_-]+")
_RAISED = re.compile(r"(\w+): ")

_Object = dict[str, Any]


def write_kcidb(verdicts: NightVerdicts) -> Path:
    """Write ``kcidb.json`` of a night, and return its file.

    Raises UsageError if the known issues cannot be read, and HarnessError if the file cannot be written.
    """
    path = verdicts.directory / FILE
    data = report(verdicts, catalogue())
    write_report(path, json.dumps(data, indent=1) + "\n")
    return path


def report(verdicts: NightVerdicts, issues: Iterable[KnownIssue]) -> _Object:
    """Return the content of ``kcidb.json``. Every judgement of every run is a test, repetitions included."""
    writer = _Writer(verdicts, {issue.id: issue for issue in issues})
    for cell in verdicts.cells:
        writer.add(cell)
    return writer.report()


def test_path(name: str) -> str:
    """Translate the id of a case, ``test_a::test_b[c+d]``, to KCIDB's form, ``vfio_dmabuf.a.b.c_d``."""
    module, _, function = name.partition("::")
    function, _, parameters = function.partition("[")
    parts = [module.removeprefix("test_"), function.removeprefix("test_"), parameters.removesuffix("]")]
    return ".".join([SUITE, *(word for part in parts if (word := _OTHER.sub("_", part)))])


def excerpt(case: CaseRecord) -> str:
    """Return the reason, the last observations and the kernel's log of a case, within the limit of the schema."""
    lines = [printable(case.reason, MAX_EXCERPT // 4)] if case.reason else []
    splat = splat_lines(case, MAX_SPLAT_LINES, LINE)
    lines += [*last_observations(case, MAX_OBSERVATIONS, LINE), *(["", *splat] if splat else [])]
    return printable("\n".join(lines), MAX_EXCERPT)


def status(case: CaseRecord) -> str:
    """Return KCIDB's status of a verdict.

    ``harness.run.judge`` puts the name of an unexpected exception in front of its reason: the code of the case failed.
    """
    if case.verdict is Verdict.ERROR and (found := _RAISED.match(case.reason)):
        kind = getattr(builtins, found[1], None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            return "ERROR"
    return _STATUSES[case.verdict]


@dataclass
class _Writer:
    """Collects the objects of a report.

    Their ids are unique among all reports of this origin, and equal when the report of a night is written again.
    """

    verdicts: NightVerdicts
    known: Mapping[str, KnownIssue]
    checkouts: dict[str, _Object] = field(default_factory=dict)
    builds: dict[str, _Object] = field(default_factory=dict)
    tests: list[_Object] = field(default_factory=list)
    issues: dict[str, _Object] = field(default_factory=dict)
    incidents: list[_Object] = field(default_factory=list)

    def report(self) -> _Object:
        """Return the report: a JSON object."""
        return {
            "version": VERSION,
            "checkouts": [*self.checkouts.values()],
            "builds": [*self.builds.values()],
            "tests": self.tests,
            "issues": [*self.issues.values()],
            "incidents": self.incidents,
        }

    def add(self, cell: CellVerdicts) -> None:
        """Add a cell: its checkout, its build, each judgement, the boots, and the cases that no run has judged."""
        build = self._build(cell)
        for ran in cell.runs:
            if ran.record:
                for index, case in enumerate(ran.record.cases):
                    self._test(f"t-{ran.record.run_id}-{index:04}", build, cell.cell, ran, case)
                self.tests += _boots(build, ran.record)
        for index, (name, why) in enumerate(cell.missing.items()):
            self._missing(_id(f"t-{self._night}-{cell.cell.id}-{index:04}"), build, cell, name, why)

    def _test(self, name: str, build: str, cell: Cell, ran: Ran, case: CaseRecord) -> None:
        assert ran.record is not None
        said = excerpt(case)
        test: _Object = {
            "id": _id(name),
            "origin": ORIGIN,
            "build_id": build,
            "path": test_path(case.id),
            "status": status(case),
            **({"start_time": case.started} if case.started else {}),
            "duration": case.duration_s,
            "comment": printable(case.title),
            **({"log_excerpt": said} if said and case.verdict is not Verdict.PASS else {}),
            "environment": _environment(cell, ran.record),
            "misc": {
                "verdict": str(case.verdict),
                "case": printable(case.id),
                "cell": cell.id,
                "run": str(ran.run.why),
                "reproducer": command(cell, case.id, case, ran.record.kernel),
                **({"seed": case.seed} if case.seed is not None else {}),
            },
        }
        self.tests.append(test)
        if case.known_issue:
            self._incident(name, test["id"], case.known_issue, present=case.verdict is not Verdict.FIXED)

    def _missing(self, name: str, build: str, cell: CellVerdicts, case: str, why: str) -> None:
        started = cell.runs[-1].run.started if cell.runs else self.verdicts.night.started
        self.tests.append(
            {
                "id": name,
                "origin": ORIGIN,
                "build_id": build,
                "path": test_path(case),
                "status": MISS,
                "start_time": started,
                "log_excerpt": printable(why, MAX_EXCERPT),
                "environment": _environment(cell.cell, None),
                "misc": {"verdict": MISS, "case": printable(case), "cell": cell.cell.id},
            }
        )

    def _incident(self, name: str, test: str, known: str, *, present: bool) -> None:
        issue = _id(known)
        self.issues.setdefault(issue, _issue(issue, self.known.get(known), known))
        self.incidents.append(
            {
                "id": _id(f"i-{name}"),
                "origin": ORIGIN,
                "issue_id": issue,
                "issue_version": ISSUE_VERSION,
                "test_id": test,
                "present": present,
            }
        )

    def _build(self, cell: CellVerdicts) -> str:
        """Return the id of the build that a cell runs; adds it and its checkout at first sight.

        A branch may move while the night runs: each of its commits is a checkout. Without a record its first commit is
        assumed.
        """
        source, own = _source(cell.cell), _first_record(cell)
        record = own or self._record_of(source)
        commit = record.kernel.git.commit if record and record.kernel.git else ""
        checkout = _id(f"ck-{self._digest(*source, commit)}")
        build = _id(f"b-{self._digest(*source, commit, cell.cell.flavour)}")
        self.checkouts.setdefault(checkout, _checkout(checkout, cell.cell, record))
        if build not in self.builds or (own and self.builds[build]["status"] == MISS):
            self.builds[build] = _build_of(build, checkout, cell, own)
        return build

    def _record_of(self, source: tuple[str, str, str]) -> RunRecord | None:
        """Return the first record of the night with this tree, kernel and series."""
        for cell in self.verdicts.cells:
            if _source(cell.cell) == source and (record := _first_record(cell)):
                return record
        return None

    @property
    def _night(self) -> str:
        return f"{self.verdicts.night.night}-{self._digest()}"

    def _digest(self, *words: str) -> str:
        """Hash words together with what only this night on this host has: the time, and the name of its first run."""
        night = self.verdicts.night
        runs = (ran.record.run_id for cell in self.verdicts.cells for ran in cell.runs if ran.record)
        text = "\0".join([night.night, night.started, next(runs, ""), *words])
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


def _source(cell: Cell) -> tuple[str, str, str]:
    return cell.tree, cell.kernel or "", cell.series or ""


def _first_record(cell: CellVerdicts) -> RunRecord | None:
    return next((ran.record for ran in cell.runs if ran.record), None)


def _id(name: str) -> str:
    return f"{ORIGIN}:{printable(name)}"


def _checkout(name: str, cell: Cell, record: RunRecord | None) -> _Object:
    """Return a checkout. A source that is not from git, such as Debian's, has no commit."""
    origin = f": {record.kernel.release}, {record.kernel.origin}" if record else ""
    return {
        "id": name,
        "origin": ORIGIN,
        "tree_name": printable(cell.tree),
        "comment": printable(f"KERNEL={cell.kernel or 'the pinned kernel'}{origin}"),
        **({"start_time": record.started, "valid": True} if record else {}),
        **(_commit(record.kernel.git) if record and record.kernel.git else {}),
        **(_patchset(record.kernel.series) if record and bool(cell.series) == bool(record.kernel.series) else {}),
        "misc": {"series": printable(cell.series or ""), "patches": record.kernel.patches if record else []},
    }


def _commit(git: GitRecord) -> _Object:
    """Return what names a commit. KCIDB wants a URL that others can fetch; a changed checkout is no commit."""
    found: _Object = {"git_commit_name": printable(git.describe)} if git.describe else {}
    if not git.dirty:
        found["git_commit_hash"] = git.commit
    if git.url.startswith("https://"):
        found["git_repository_url"] = git.url
    if git.ref not in ("", git.commit, git.describe):
        found["git_repository_branch"] = printable(git.ref)
    return found


def _patchset(series: Sequence[PatchRecord]) -> _Object:
    """Return the hash of a series, as ``sha256sum *.patch | cut -c-64 | sha256sum | cut -c-64`` prints it."""
    text = "".join(f"{patch.sha256}\n" for patch in series)
    found: _Object = {"patchset_hash": hashlib.sha256(text.encode()).hexdigest() if series else ""}
    if message := next((patch.message_id for patch in series if patch.message_id), ""):
        found["message_id"] = printable(message)
    return found


def _build_of(name: str, checkout: str, cell: CellVerdicts, record: RunRecord | None) -> _Object:
    build: _Object = {
        "id": name,
        "origin": ORIGIN,
        "checkout_id": checkout,
        "config_name": f"vfio-harness-{cell.cell.flavour}",
        "status": _build_status(cell, record),
    }
    if record:
        build["misc"] = {"config_hash": record.kernel.config_hash}
        build |= _how_built(record.kernel.build) if record.kernel.build else {}
    elif cell.runs:
        build["log_excerpt"] = printable(cell.why_missing(), MAX_EXCERPT)
    return build


def _how_built(build: BuildRecord) -> _Object:
    found: _Object = {"architecture": build.architecture, "compiler": printable(build.compiler)}
    if build.started:
        found["start_time"] = build.started
    if build.duration_s is not None:
        found["duration"] = build.duration_s
    return found


def _build_status(cell: CellVerdicts, record: RunRecord | None) -> str:
    """Return the status of a build. Without a record only the exit code tells a kernel that does not build."""
    if record:
        return "SKIP" if record.kernel.release == NOT_BUILT else "PASS"
    return "FAIL" if any(ran.run.exit_code == KernelError.exit_code for ran in cell.runs) else MISS


def _boots(build: str, record: RunRecord) -> Iterator[_Object]:
    """Yield a measurement for each boot of a run: seconds until the guest is ready."""
    boots = [phase for phase in record.phases if phase.phase == "boot"]
    for index, phase in enumerate(boots):
        yield {
            "id": _id(f"t-{record.run_id}-boot-{index:04}"),
            "origin": ORIGIN,
            "build_id": build,
            "path": f"{SUITE}.boot",
            "status": "DONE",
            "number": {"value": phase.seconds, "unit": "s"},
            "start_time": record.started,
            "environment": _host(record.machine, record),
        }


def _environment(cell: Cell, record: RunRecord | None) -> _Object:
    return _host(record.machine if record else cell.machine, record)


def _host(machine: str, record: RunRecord | None) -> _Object:
    qemu = f"QEMU {record.host.qemu}, {record.host.accel}, " if record else ""
    return {"comment": printable(f"{qemu}machine {machine}"), "misc": {"platform": f"qemu-q35-{printable(machine)}"}}


def _issue(name: str, entry: KnownIssue | None, known: str) -> _Object:
    """Return an issue: the entry of known-issues.yaml, or its id where a newer file has no such entry."""
    issue: _Object = {
        "id": name,
        "version": ISSUE_VERSION,
        "origin": ORIGIN,
        "report_subject": entry.title if entry else known,
        "culprit": {"code": True, "tool": False, "harness": False},
    }
    if entry:
        issue["comment"] = " ".join(f"{entry.evidence.strip()} {entry.link}".split())
        issue["misc"] = {"kernels": str(entry.kernels)}
    return issue
