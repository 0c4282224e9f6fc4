# SPDX-License-Identifier: GPL-2.0-only
"""The text of a bug's mail to its maintainers: what a reproduction showed, in the form that the kernel's lists read."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.bugs import Bug
from harness.bugs.kernel_scripts import Recipients
from harness.bugs.shown import shows
from harness.commands.repro import Reproduction
from harness.escape import printable
from harness.nightly.excerpt import splat_lines
from harness.report.text import one_line, repeat_command
from harness.report.timeline_text import WIDTH as LOG_WIDTH
from harness.report.timeline_text import timeline_text
from harness.run.known_issues import KnownIssue
from harness.verdict import GOOD, CaseRecord, RunRecord

WIDTH = 72
"""Columns of prose. The kernel's log and commands are not wrapped."""
MAX_REASON = 1200
"""Characters of a reason."""
MAX_SPLAT_LINES = 40
OURS = "vfio-harness"
"""The reporter of what the harness itself has found."""


@dataclass(frozen=True)
class Draft:
    """What a mail is made of."""

    found: Reproduction
    """The runs that show the bug, and the patch without it."""
    issue: KnownIssue | None
    """The entry of known-issues.yaml with the same id: the cause, and the line."""
    recipients: Recipients
    author: str
    """Who sends it."""
    patch: str = ""
    """The file name of the fix; empty without one."""
    reproducer: tuple[str, str] | None = None
    """File name and text of a program in C that shows the bug; None without one."""

    def text(self) -> str:
        """Return the mail, with its headers."""
        return "\n".join([*self._headers(), "", *self._body(), "", "-- ", f"{OURS} {self.found.bad.harness}"]) + "\n"

    @property
    def _entry(self) -> Bug:
        return self.found.entry

    def _headers(self) -> Iterator[str]:
        yield f"From: {self.author}"
        if self.recipients.to:
            yield f"To: {_folded(self.recipients.to)}"
        if self.recipients.cc:
            yield f"Cc: {_folded(self.recipients.cc)}"
        yield f"Subject: [BUG] vfio dma-buf: {one_line(self._entry.title)}"

    def _body(self) -> Iterator[str]:
        entry, case = self._entry, self.found.shown_by
        assert case is not None, "only a reproduced bug is reported"
        yield "Hi,"
        yield ""
        yield from _wrapped(self._paragraph())
        yield ""
        yield from _item("Affected", entry.affected)
        if self.issue:
            yield from _item("Code", self.issue.link)
        if entry.reporter != OURS:
            yield from _item("Reported before", f"{entry.reporter}, {entry.date}: {entry.thread}")
        if entry.introduced_by:
            yield ""
            yield f"Fixes: {entry.introduced_by}"
        yield ""
        yield from _wrapped(f"Seen on {_kernel(self.found.bad)}:")
        yield ""
        yield from _wrapped(printable(case.reason, MAX_REASON), "  ")
        yield from self._observed(case)
        yield from self._control()
        yield from self._how_to_reproduce(case)

    def _paragraph(self) -> str:
        """Return the bug in one paragraph: its cause if it is known, else what goes wrong, and how to provoke it."""
        cause = self.issue.evidence if self.issue else self._entry.symptom
        return f"{' '.join(cause.split())} To provoke it: {' '.join(self._entry.trigger.split())}"

    def _observed(self, case: CaseRecord) -> Iterator[str]:
        if log := splat_lines(case, MAX_SPLAT_LINES, LOG_WIDTH):
            yield from ("", "The kernel's log:", "", *(f"  {line}".rstrip() for line in log))
        elif lines := timeline_text(case.evidence):
            yield ""
            yield from _wrapped("What the guest did, and what the host saw of the devices, in seconds:")
            yield from ("", *(f"  {line}" for line in lines))

    def _control(self) -> Iterator[str]:
        """Say what the control run proves of the patch."""
        yield ""
        if not self.patch or self.found.control is None:
            yield from _wrapped("I have no patch for it.")
            return
        shown = {case.id for case in self.found.bad.cases if shows(self._entry, case)}
        good = sum(case.id in shown and case.verdict in GOOD for case in self.found.control.cases)
        of = (
            f"the {len(shown)} cases that show the bug pass" if len(shown) > 1 else "the case that shows the bug passes"
        )
        counted = of if good == len(shown) else f"only {good} of {of}"
        yield from _wrapped(f"On the same kernel with the patch of the next mail ({self.patch}), {counted}.")

    def _how_to_reproduce(self, case: CaseRecord) -> Iterator[str]:
        yield ""
        yield "To reproduce it with vfio-harness:"
        yield ""
        yield f"  {repeat_command(case, self.found.sides.bad.again_settings())}"
        if self.reproducer:
            name, text = self.reproducer
            yield from ("", f"The same without it, as one program, {name}:", "", text.rstrip())


def _kernel(run: RunRecord) -> str:
    host = f"QEMU {run.host.qemu}, {run.host.accel}"
    return f"Linux {run.kernel.release} ({run.kernel.origin}), on the machine {run.machine} ({host})"


def _item(name: str, text: str) -> list[str]:
    return _wrapped(f"{name}: {text}", after="  ")


def _folded(addresses: Sequence[str]) -> str:
    return ",\n    ".join(one_line(address) for address in addresses)


def _wrapped(text: str, before: str = "", after: str | None = None) -> list[str]:
    """Wrap prose. A name that is longer than a line is not broken."""
    return textwrap.wrap(
        printable(" ".join(text.split())),
        WIDTH,
        initial_indent=before,
        subsequent_indent=before if after is None else after,
        break_long_words=False,
        break_on_hyphens=False,
    )
