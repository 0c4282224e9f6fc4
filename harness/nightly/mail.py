# SPDX-License-Identifier: GPL-2.0-only
"""``mail.txt``: the draft of a mail about what has changed since the last night. A night without changes has no mail.

The draft follows the habits of the kernel's lists: plain text in 72 columns, one problem after the other. Commands,
``#regzbot`` lines and the kernel's log are not wrapped, so that they can be copied. See
Documentation/admin-guide/reporting-regressions.rst.
"""

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.escape import printable
from harness.nightly.again import command
from harness.nightly.cells import CellVerdicts, Judged, NightVerdicts
from harness.nightly.excerpt import last_observations, splat_lines
from harness.nightly.record import CaseChange, Cell
from harness.report.parts import MISS
from harness.report.record import write_report
from harness.report.text import one_line
from harness.verdict import GOOD, KERNEL_AT_FAULT, WORST_FIRST, Verdict

FILE = "mail.txt"
WIDTH = 72
"""Columns of prose, and characters of the subject."""
LOG_WIDTH = 100
"""Columns of the kernel's log, which is not wrapped."""
MAX_PROBLEMS = 5
"""Problems that get an excerpt. The others get a line for each case."""
MAX_OBSERVATIONS = 10
MAX_SPLAT_LINES = 30
MAX_CASES = 10
"""Cases that one list names; the rest is counted."""
MAX_TESTS = 40
"""Tests that the list of what a commit breaks names."""
MAX_REASON = 1200
"""Characters of a reason."""
WHAT = "vfio-harness tests the dma-buf export of vfio-pci in virtual machines."
REGRESSIONS = "regressions@lists.linux.dev"
"""regzbot reads its commands only on this list."""

_COMMIT = re.compile(r"([0-9a-f]{40})(?: (.*))?", re.DOTALL)


def write_mail(verdicts: NightVerdicts) -> Path | None:
    """Write the draft of a night whose record holds its changes. Returns its file.

    If nothing worth a mail has changed, removes an older draft and returns None. Raises HarnessError if the draft
    cannot be written.
    """
    path = verdicts.directory / FILE
    text = draft(verdicts)
    if text is None:
        path.unlink(missing_ok=True)
        return None
    write_report(path, text)
    return path


@dataclass(frozen=True)
class Problem:
    """Changes for the worse that have one cause: the first bad commit, or the same symptom if no commit is known."""

    changes: tuple[CaseChange, ...]
    cells: tuple[CellVerdicts, ...]
    """The cell of each change."""

    @property
    def first(self) -> CaseChange:
        """The change that is quoted."""
        return self.changes[0]

    @property
    def commit(self) -> tuple[str, str] | None:
        """The hash and the subject of the first bad commit; None if it is not known."""
        found = _COMMIT.fullmatch(self.first.commit.strip())
        return (found[1], one_line(found[2] or "")) if found else None

    @property
    def several_symptoms(self) -> bool:
        """Whether a known commit breaks different things."""
        return self.commit is not None and len({change.reason for change in self.changes}) > 1

    @property
    def quoted(self) -> Judged | None:
        """The judgement that is quoted; None if no record has it."""
        return self.cells[0].showing(self.first.case, self.first.after)

    @property
    def trees(self) -> tuple[str, ...]:
        """The trees that have it."""
        return tuple(dict.fromkeys(found.cell.tree for found in self.cells))


@dataclass(frozen=True)
class Changes:
    """The changes of a night by what a reader does with them."""

    problems: tuple[Problem, ...]
    unjudged: tuple[CaseChange, ...]
    """ERROR now."""
    missing: tuple[CaseChange, ...]
    fixed: tuple[CaseChange, ...]
    other: tuple[CaseChange, ...]

    @classmethod
    def of(cls, verdicts: NightVerdicts) -> "Changes":
        """Sort the changes. A new case that is good is no news."""
        groups: dict[tuple[str, ...], list[CaseChange]] = {}
        unjudged, missing, fixed, other = [], [], [], []
        for change in verdicts.night.changes:
            if change.after in KERNEL_AT_FAULT:
                groups.setdefault(_cause(change), []).append(change)
            elif change.after == Verdict.ERROR:
                unjudged.append(change)
            elif change.kind == "missing" or change.after == MISS:
                missing.append(change)
            elif change.kind == "fixed" and change.before != Verdict.ERROR:
                fixed.append(change)
            elif change.kind != "new":
                other.append(change)
        problems = []
        for group in groups.values():
            changes = _most_telling_first(group)
            cells = tuple(verdicts.cell(change.cell) or _lost(change) for change in changes)
            problems.append(Problem(tuple(changes), cells))
        return cls(tuple(problems), tuple(unjudged), tuple(missing), tuple(fixed), tuple(other))


def _cause(change: CaseChange) -> tuple[str, ...]:
    """Return the commit if it is known, else the symptom."""
    return ("commit", change.commit) if change.commit else (change.fingerprint or change.reason or change.case,)


def _most_telling_first(changes: Sequence[CaseChange]) -> list[CaseChange]:
    """Sort the changes of one cause: the worst verdict first, then the symptom that most of them have."""
    symptoms = Counter(change.reason for change in changes)
    return sorted(changes, key=lambda change: (WORST_FIRST.index(Verdict(change.after)), -symptoms[change.reason]))


def _lost(change: CaseChange) -> CellVerdicts:
    """Stand in for a cell that the plan no longer has."""
    gone = Cell(id=change.cell, tree=change.cell, kernel=None, flavour="release", machine="unknown", suite="default")
    return CellVerdicts(gone, ())


def draft(verdicts: NightVerdicts) -> str | None:
    """Return the draft; None if nothing worth a mail has changed."""
    changes = Changes.of(verdicts)
    if not any((changes.problems, changes.unjudged, changes.missing, changes.fixed, changes.other)):
        return None
    lines = [*_head(verdicts, changes), ""]
    for number, problem in enumerate(changes.problems[:MAX_PROBLEMS], 1):
        heading = f"{number}. " if len(changes.problems) > 1 else ""
        lines += [*_problem(problem, verdicts, heading), ""]
    rest = [change for problem in changes.problems[MAX_PROBLEMS:] for change in problem.changes]
    lines += _section("Broken as well", "", rest)
    lines += _section(
        "Not judged",
        "The harness or its host failed in these cases. That says nothing about the kernel.",
        changes.unjudged,
    )
    lines += _section(
        "Missing", "The last night has judged these cases, this night has not. They are not fixed.", changes.missing
    )
    lines += _section("Fixed", "These cases failed in the last night.", changes.fixed)
    lines += _section("Changed otherwise", "", changes.other)
    lines += ["-- ", f"vfio-harness, night {verdicts.night.night}"]
    return "\n".join(lines) + "\n"


def _head(verdicts: NightVerdicts, changes: Changes) -> Iterator[str]:
    """Yield the headers and the first paragraph."""
    yield f"Subject: {_subject(verdicts, changes)}"
    changed = [*_cases(changes.problems), *changes.unjudged, *changes.missing, *changes.fixed, *changes.other]
    cells = [found for change in changed if (found := verdicts.cell(change.cell))]
    if owners := list(dict.fromkeys(found.cell.owner for found in cells if "@" in found.cell.owner)):
        yield f"To: {one_line(', '.join(owners), 500)}"
    commits = list(dict.fromkeys(problem.commit for problem in changes.problems if problem.commit))
    if commits:
        yield f"Cc: {REGRESSIONS}"
    yield ""
    yield "Hi,"
    yield ""
    broken = len(list(_cases(changes.problems)))
    if broken:
        yield from _wrapped(f"{WHAT} Since the last night {_cases_fail(broken)} on {_trees(changes.problems)}.")
    else:
        yield from _wrapped(f"{WHAT} Since the last night no case has begun to fail, but other results have changed.")
    if len(commits) > 1:
        yield ""
        yield from _wrapped("regzbot tracks one regression for each mail: split this draft before you send it.")


def _subject(verdicts: NightVerdicts, changes: Changes) -> str:
    problems = changes.problems
    if len(problems) == 1:
        return _shortened(f"[REGRESSION] vfio dma-buf: {_summary(problems[0])}")
    if problems:
        return _shortened(f"[REGRESSION] vfio dma-buf: {len(problems)} problems on {_trees(problems)}")
    counts = (
        (len(changes.unjudged), "not judged"),
        (len(changes.missing), "missing"),
        (len(changes.fixed), "fixed"),
        (len(changes.other), "changed otherwise"),
    )
    said = ", ".join(f"{count} {what}" for count, what in counts if count)
    return f"[vfio-harness] {verdicts.night.night}: {said}"


def _summary(problem: Problem) -> str:
    """Name a problem in a line: by its commit if that has several symptoms."""
    if problem.commit and problem.several_symptoms:
        return f"{_cases_fail(len(problem.changes))} since {problem.commit[0][:12]}"
    return _symptom(problem)


def _symptom(problem: Problem) -> str:
    """Name a problem in a line: a splat by its title, anything else by the rule that the kernel breaks."""
    if problem.first.after == Verdict.SPLAT and problem.first.reason:
        return problem.first.reason
    quoted = problem.quoted
    return f"{problem.first.after}: {quoted.case.title if quoted else problem.first.case}"


def _problem(problem: Problem, verdicts: NightVerdicts, heading: str) -> Iterator[str]:
    """Yield what a maintainer needs to know about one problem."""
    first, cell, quoted = problem.first, problem.cells[0].cell, problem.quoted
    yield from _wrapped(f"{heading}{quoted.case.title if quoted else first.case}", after=" " * len(heading))
    yield ""
    yield from _indented(f"case:    {first.case}")
    yield from _indented(f"verdict: {_was(first)}")
    if first.last_good:
        yield from _indented(f"passed:  last in the night {first.last_good}")
    if first.rate:
        yield from _indented(f"rate:    it failed {first.rate} times when it was repeated")
    yield from _indented(f"kernel:  {_kernel(cell, quoted)}")
    yield from _indented(f"machine: {_machine(cell, quoted)}")
    others = problem.changes[1:]
    if others and not problem.several_symptoms:
        yield ""
        yield "The same symptom:"
        yield ""
        yield from _list(_where(change) for change in others)
    if good := _good_elsewhere(problem, verdicts):
        yield ""
        yield "The same case passes in:"
        yield ""
        yield from _list(good)
    yield ""
    yield from _excerpt(problem)
    yield ""
    if problem.commit:
        commit, subject = problem.commit
        named = f'{commit[:12]} ("{subject}")' if subject else commit[:12]
        yield from _wrapped(f"The first bad commit is {named}.")
        yield ""
        yield f"#regzbot introduced: {named}"
    else:
        yield "The first bad commit is not known."
    yield ""
    yield "To reproduce it:"
    yield ""
    again = command(cell, first.case, quoted.case, quoted.record.kernel) if quoted else command(cell, first.case)
    yield f"  {again}"
    if others and problem.several_symptoms:
        yield ""
        yield f"The same commit breaks {len(others)} more:"
        yield ""
        yield from _list(_by_test(others), MAX_TESTS)


def _by_test(changes: Iterable[CaseChange]) -> Iterator[str]:
    """Yield a line for each test and verdict, with the parameters of its cases."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for change in changes:
        test, _, rest = change.case.partition("[")
        found.setdefault((test, _was(change)), {})[rest.rstrip("]")] = None
    for (test, was), parameters in found.items():
        named = ", ".join(filter(None, parameters))
        yield f"{test}: {was}" + (f" for {named}" if named else "")


def _excerpt(problem: Problem) -> Iterator[str]:
    """Yield the reason, the last observations and the splat. Never empty: without a record it says what is missing."""
    quoted = problem.quoted
    reason = problem.first.reason or (quoted.case.reason if quoted else "")
    yield from _wrapped(printable(reason, MAX_REASON) or "The record gives no reason.")
    observed = last_observations(quoted.case, MAX_OBSERVATIONS, WIDTH - 2) if quoted else []
    log = splat_lines(quoted.case, MAX_SPLAT_LINES, LOG_WIDTH - 2) if quoted else []
    if observed:
        yield from ("", "The last observations, in seconds since the case began:", "")
        yield from (f"  {line}" for line in observed)
    if log:
        yield from ("", "The kernel's log:", "")
        yield from (f"  {line}".rstrip() for line in log)
    if quoted and (program := quoted.case.program):
        yield from ("", "The program, for PROGRAM=:", "")
        yield from (f"  {one_line(call, LOG_WIDTH - 2)}" for call in program.calls[:MAX_SPLAT_LINES])
    if not observed and not log:
        why = "the case has no evidence" if quoted else problem.cells[0].why_missing()
        yield ""
        yield from _wrapped(f"There is nothing more to quote: {why}.")


def _kernel(cell: Cell, quoted: Judged | None) -> str:
    if quoted is None:
        return f"{cell.tree}, KERNEL={cell.kernel or 'the pinned one'}, {cell.flavour}"
    kernel = quoted.record.kernel
    commit = f"{kernel.git.describe or kernel.git.commit}, " if kernel.git else ""
    return f"{kernel.release} ({cell.tree}: {commit}{kernel.origin}), {cell.flavour}"


def _machine(cell: Cell, quoted: Judged | None) -> str:
    host = f", QEMU {quoted.record.host.qemu}, {quoted.record.host.accel}" if quoted else ""
    return f"{cell.machine}{host}"


def _good_elsewhere(problem: Problem, verdicts: NightVerdicts) -> list[str]:
    """Return the cells of the tree whose verdict of the quoted case is good."""
    return [
        cell.cell.id
        for cell in verdicts.cells
        if cell.cell.tree == problem.cells[0].cell.tree
        and (judged := cell.verdict(problem.first.case))
        and judged.case.verdict in GOOD
    ]


def _section(title: str, explanation: str, changes: Sequence[CaseChange]) -> Iterator[str]:
    """Yield a list of changes under a title; nothing without changes."""
    if not changes:
        return
    yield f"{title}: {len(changes)}"
    if explanation:
        yield from _wrapped(explanation)
    yield ""
    yield from _list(_where(change, why=True) for change in changes)
    yield ""


def _where(change: CaseChange, why: bool = False) -> str:
    reason = one_line(change.reason) if why else ""
    return f"{change.case} in {change.cell}: {_was(change)}" + (f"; {reason}" if reason else "")


def _was(change: CaseChange) -> str:
    return f"{change.before} -> {change.after}" if change.before else f"{change.after}, new"


def _list(items: Iterable[str], most: int = MAX_CASES) -> Iterator[str]:
    found = list(items)
    for item in found[:most]:
        yield from _indented(item)
    if len(found) > most:
        yield f"  and {len(found) - most} more"


def _indented(text: str) -> Iterator[str]:
    yield from _wrapped(text, "  ", "    ")


def _wrapped(text: str, before: str = "", after: str = "") -> list[str]:
    """Wrap prose. A name that is longer than a line is not broken."""
    return textwrap.wrap(
        printable(text),
        WIDTH,
        initial_indent=before,
        subsequent_indent=after,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _shortened(text: str) -> str:
    """Shorten a subject at a word."""
    return textwrap.shorten(one_line(text), WIDTH, placeholder=" ...")


def _cases(problems: Iterable[Problem]) -> Iterator[CaseChange]:
    for problem in problems:
        yield from problem.changes


def _cases_fail(count: int) -> str:
    return "1 more case fails" if count == 1 else f"{count} more cases fail"


def _trees(problems: Iterable[Problem]) -> str:
    found = list(dict.fromkeys(tree for problem in problems for tree in problem.trees))
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"
