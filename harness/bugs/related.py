# SPDX-License-Identifier: GPL-2.0-only
"""The entries of the catalogue about some of a kernel's functions or files."""

import re
from collections.abc import Collection, Iterable

from harness.bugs.catalogue import Bug


def about(functions: Collection[str], bugs: Iterable[Bug]) -> list[Bug]:
    """Return the bugs whose mutation or fix changes one of these functions."""
    return [bug for bug in bugs if {*functions} & _functions(bug)]


def in_files(files: Collection[str], bugs: Iterable[Bug]) -> list[Bug]:
    """Return the bugs whose mutation or fix changes one of these files."""
    return [bug for bug in bugs if {*files} & _files(bug)]


def _functions(bug: Bug) -> set[str]:
    """Return the functions that a mutation names, and the words behind the ``@@`` of a fix: one is the function."""
    heads = re.findall(r"^@@ .*? @@ (.*)$", _fix(bug), re.M)
    return {*(bug.mutation.functions if bug.mutation else ()), *re.findall(r"\w+", " ".join(heads))}


def _files(bug: Bug) -> set[str]:
    return {*(bug.mutation.files if bug.mutation else ())} | {*re.findall(r"^\+\+\+ b/(\S+)", _fix(bug), re.M)}


def _fix(bug: Bug) -> str:
    return bug.fix_path.read_text(encoding="utf-8") if bug.fix_path else ""
