# SPDX-License-Identifier: GPL-2.0-only
"""``report.html``: one static page with no script, no network access, and a light and a dark theme.

Problems come first, with their evidence; cases that passed are folded. The page has a size limit: a kernel that prints
megabytes must not make a page that no browser opens. ``report.json`` has everything.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.report import pages
from harness.report.splat_outline import outlines
from harness.report.text import by_area, changes, cut, repeat_command
from harness.report.timeline import Picture, picture
from harness.verdict import BAD, CaseRecord, Evidence, RunRecord, Verdict

LIMIT = 1_900_000
"""Bytes of the page, if its cases and their reasons alone do not take more."""

_KNOWN = {Verdict.KNOWN, Verdict.FIXED}
_MACHINE_FILES = ("command", "console.log", "trace.log", "qemu.stderr")
_OTHER_FILES = ("*.device.jsonl", "peer/console.log")
"""What some machines have besides: the logs of vfio-user devices, and the console of a second VM."""


@dataclass(frozen=True)
class Detail:
    """How much of the evidence the page shows."""

    good: bool
    """Whether it shows that of cases that are no problem."""
    good_pictures: bool = False
    """Whether it shows the pictures of those cases."""
    items: int | None = None
    """The latest observations of a case that it shows; None: all."""
    characters: int | None = None
    """Characters of each observation; None: all."""
    reason: int = 4000
    """Characters of each reason."""
    brief: bool = False
    """Whether the pictures of problems are brief, too."""
    left_out: str = ""
    """What the page says about it."""

    def evidence(self, case: CaseRecord) -> list[Evidence]:
        """Return the evidence of a case that the page shows."""
        if not self.good and case.verdict not in BAD:
            return []
        shown = case.evidence if self.items is None else case.evidence[-self.items :]
        if self.characters is None:
            return shown
        return [item.model_copy(update={"text": cut(item.text, self.characters)}) for item in shown]


DETAILS = (
    Detail(good=True, good_pictures=True),
    Detail(
        good=False, good_pictures=True, left_out="the evidence of cases that are no problem, except their timelines"
    ),
    Detail(good=False, left_out="the evidence of cases that are no problem"),
    Detail(good=False, items=100, characters=600, reason=1000, left_out="most of the evidence"),
    Detail(good=False, items=4, characters=120, reason=200, brief=True, left_out="nearly all evidence"),
)
"""From the most to the least. The first that fits is taken."""


@dataclass(frozen=True)
class Shown:
    """A case as the page shows it."""

    number: int
    """Its place in the record; the page's anchor of the case is ``c`` and this number."""
    case: CaseRecord
    reason: str
    evidence: list[Evidence]
    picture: Picture | None
    splats: list[list[str]]


def render(record: RunRecord, settings: Mapping[str, str], directory: Path, command: str = "run") -> str:
    """Render the whole page.

    ``settings`` and ``command``: see ``repeat_command``. ``directory``: the run's, with the machines' files.
    """
    again = partial(repeat_command, settings=settings, command=command)
    files = {case.ran_in: _files(directory, case.ran_in) for case in record.cases if case.ran_in}
    page = ""
    for detail in DETAILS:
        last = detail is DETAILS[-1]
        if not last and sum(len(item.text) for case in record.cases for item in detail.evidence(case)) > LIMIT:
            continue
        page = _render(record, again, detail, files)
        if len(page.encode()) <= LIMIT:
            break
    return page


def anchor(number: int) -> str:
    """Return the anchor of a case in the page. ``number``: its place in the record."""
    return f"c{number}"


def _files(directory: Path, ran_in: str) -> list[str]:
    """Return the files of a machine that the page links, relative to the machine's directory."""
    machine = directory / ran_in
    others = (str(found.relative_to(machine)) for pattern in _OTHER_FILES for found in sorted(machine.glob(pattern)))
    return [*_MACHINE_FILES, *others]


def _render(
    record: RunRecord, again: Callable[[CaseRecord], str], detail: Detail, files: Mapping[str, Sequence[str]]
) -> str:
    shown = [_show(number, case, detail) for number, case in enumerate(record.cases)]
    by_verdict = {verdict: [each for each in shown if each.case.verdict is verdict] for verdict in Verdict}
    return pages.render(
        "report.html",
        title=f"vfio-harness: {record.kernel.release}",
        record=record,
        known=_facts(record),
        problems=[each for each in shown if each.case.verdict in BAD],
        known_issues=[*by_verdict[Verdict.KNOWN], *by_verdict[Verdict.FIXED]],
        areas=list(_areas(shown)),
        changes=changes(record),
        again=again,
        left_out=detail.left_out,
        files=files,
    )


def _show(number: int, case: CaseRecord, detail: Detail) -> Shown:
    evidence = detail.evidence(case)
    problem = case.verdict in BAD
    return Shown(
        number,
        case,
        cut(case.reason, detail.reason),
        evidence,
        picture(case.evidence, brief=detail.brief or not problem) if problem or detail.good_pictures else None,
        outlines(evidence) if problem else [],
    )


def _areas(shown: Sequence[Shown]) -> Iterator[tuple[str, list[CaseRecord], list[Shown]]]:
    """Yield each area, its cases, and those of them that are not shown above: PASS and SKIP."""
    for area, cases in by_area(each.case for each in shown).items():
        rest = [each for each in shown if each.case.area == area and each.case.verdict not in BAD | _KNOWN]
        yield area, cases, rest


def _facts(record: RunRecord) -> dict[str, str]:
    kernel, host = record.kernel, record.host
    return {
        "run": f"{record.run_id}, {record.started}, vfio-harness {record.harness}",
        "kernel": f"{kernel.release} from {kernel.origin}, config {kernel.config_hash}",
        "patches": ", ".join(kernel.patches),
        "features": ", ".join(name if present else f"no {name}" for name, present in kernel.features.items()),
        "machine": record.machine,
        "host": f"QEMU {host.qemu}, {host.accel} ({host.accel_reason}), {host.cpu}",
    }
