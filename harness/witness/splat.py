# SPDX-License-Identifier: GPL-2.0-only
"""Find the kernel's complaints in a console log. Pure functions over untrusted text, bounded in time and size."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.witness.splat_formats import CUT_HERE, FORMATS, LOCKDEP, MAX_LINE, MESSAGES, PLUMBING, RULE, Format

MAX_SPLATS = 32
MAX_TITLE = 240
MAX_MESSAGE_LINES = 8
FINGERPRINT_FRAMES = 3

# printk.time, printk's caller id, and the console's own level prefix.
_PREFIX = re.compile(r"(?:<\d{1,3}>)?(?:\[ *\d{1,8}\.\d{6}\])?(?:\[ *[TC]\d{1,8}\])? ?")
_FRAME = re.compile(r" {1,3}(?P<function>[A-Za-z_][\w.]{0,100})\+0x[0-9a-f]{1,8}/0x[0-9a-f]{1,8}")
_CALL_TRACE = re.compile(r"Call [Tt]race:")
_RIP = re.compile(r"RIP: 0010:(?P<function>[A-Za-z_][\w.]{0,100})\+0x")
_NUMBERS = re.compile(r"\b(?:0x)?[0-9a-f]*\d[0-9a-f]*\b")
_CLONE = re.compile(r"\.(?:isra|constprop|part|cold|llvm|lto_priv)\b.*")
"""What a compiler adds to the name of a function that it has changed or split. Another build may add something else."""
# Lines that come before a report, and decide how it is read. The text of a splat begins after them.
_BEFORE = ("-" * 12 + "[ cut here ]" + "-" * 12, "=" * 20)


@dataclass(frozen=True)
class Splat:
    """One complaint of the kernel."""

    kind: str
    title: str
    """One line by which a maintainer recognises it."""
    text: str
    """The whole report, at most 200 lines."""
    fingerprint: str
    """Equal in every run and on every build: the kind, and the innermost functions. A report without a function has the
    title without numbers instead."""


def find_splats(console: str) -> list[Splat]:
    """Return the complaints in ``console``, in order, at most ``MAX_SPLATS``.

    A report that was cut off ends where the text does.
    """
    lines = [_strip(line) for line in console.splitlines()]
    return list(itertools.islice(_splats(lines), MAX_SPLATS))


def parse_splat(text: str) -> Splat | None:
    """Read the ``text`` of a splat again, e.g. from the evidence of a case. None if ``text`` is not that of a splat."""
    first = text.partition("\n")[0][:MAX_LINE]
    for before in _BEFORE:
        found = find_splats(f"{before}\n{text}")
        if found and found[0].text.partition("\n")[0] == first:
            return found[0]
    return None


def _strip(line: str) -> str:
    line = line[:MAX_LINE]
    prefix = _PREFIX.match(line)
    return line[prefix.end() :] if prefix and prefix.group().strip() else line


def _splats(lines: list[str]) -> Iterator[Splat]:
    at = 0
    while at < len(lines):
        row = _first_line(lines, at)
        if row is None:
            at += 1
            continue
        form, match = row
        end = _end(lines, at, form)
        message = _message(lines, at)
        yield _splat(form, match, message, lines[at - len(message) : end])
        at = end


def _first_line(lines: list[str], at: int) -> tuple[Format, re.Match[str]] | None:
    """Return the format whose report begins at line ``at``, if any does."""
    if at and RULE.match(lines[at - 1]) and (match := LOCKDEP.first.match(lines[at])):
        return LOCKDEP, match
    for form in FORMATS:
        if match := form.first.match(lines[at]):
            return form, match
    return None


def _end(lines: list[str], start: int, form: Format) -> int:
    """Return the index after the report's last line."""
    limit = min(len(lines), start + form.max_lines)
    for at in range(start + 1, limit):
        if CUT_HERE.match(lines[at]):
            return at
        if (row := _first_line(lines, at)) and row[0].kind not in form.absorbs:
            return at
        if form.last.match(lines[at]):
            following = at + 1
            if form.after and following < limit and form.after.match(lines[following]):
                following += 1
            return following
    return limit


def _message(lines: list[str], start: int) -> list[str]:
    """Return WARN's own message: the lines between "cut here" and the report's first line."""
    for at in range(start - 1, max(-1, start - 2 - MAX_MESSAGE_LINES), -1):
        if CUT_HERE.match(lines[at]):
            return lines[at + 1 : start]
    return []


def _frames(lines: list[str]) -> Iterator[str]:
    """Yield the functions of the report's first call trace, innermost first, without frames marked unreliable ("?")."""
    trace = itertools.dropwhile(lambda line: not _CALL_TRACE.match(line), lines)
    for line in itertools.takewhile(lambda line: line.startswith(" "), itertools.islice(trace, 1, None)):
        if match := _FRAME.match(line):
            yield match["function"]


def _named(form: Format, match: re.Match[str], message: list[str]) -> tuple[str, str, dict[str, str | None]]:
    """Return kind, title template and fields. A known message of a WARN decides them, as it says more than WARN."""
    fields = match.groupdict()
    if fields.get("function"):  # of a clone that the compiler made, whose name differs from build to build
        fields["function"] = _CLONE.sub("", fields["function"])
    for kind, pattern, title in MESSAGES:
        if found := next((hit for line in message if (hit := pattern.match(line))), None):
            return kind, title, fields | found.groupdict()
    if message and form.kind == "warning":
        return form.kind, form.title + ": {message}", fields | {"message": message[0]}
    return form.kind, form.title, fields


def _splat(form: Format, match: re.Match[str], message: list[str], lines: list[str]) -> Splat:
    kind, title, fields = _named(form, match, message)
    stack = [frame for frame in _frames(lines) if not PLUMBING.fullmatch(frame)]
    rip = next((found["function"] for line in lines if (found := _RIP.match(line))), None)
    suspects = (name for name in (fields.get("function"), rip, *stack) if name and not PLUMBING.fullmatch(name))
    culprit = next(suspects, "?")
    values = {key: (value or "?").strip() for key, value in fields.items()} | {"culprit": culprit}
    values["where"] = re.sub(r"^(?:\.\.?/)+", "", values.get("where", ""))
    line = title.format(**values)[:MAX_TITLE]
    functions = dict.fromkeys(_CLONE.sub("", name) for name in (culprit, *stack) if name != "?")
    top = " < ".join(list(functions)[:FINGERPRINT_FRAMES]) or _NUMBERS.sub("#", line)
    return Splat(kind, line, "\n".join(lines), f"{kind}: {top}")
