# SPDX-License-Identifier: GPL-2.0-only
"""What the user has changed in the kernel under test: a series, or a source tree."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.bugs import Fixes
from harness.bugs.statements import function_lines
from harness.errors import HarnessError
from harness.kernel import Kernel
from harness.kernel.build.tree import last_changed
from harness.kernel.source import difference
from harness.kernel.source.difference import FileDifference
from harness.kernel.source.git import run_git
from harness.progress import silent
from harness.run.options import Options

log = logging.getLogger(__name__)

MOST_FILES = 50
"""With more changed files than this, an order by them says nothing."""


@dataclass(frozen=True)
class Changed:
    """The changed code."""

    what: str
    """What changed it, e.g. ``the series``."""
    files: frozenset[str]
    """The changed files, relative to the source."""
    functions: frozenset[str]
    """``file:function`` of each changed function; ``file:`` where only the file is known."""

    def names(self) -> list[str]:
        """Return the names of the functions; of the files, where only those are known."""
        return sorted({each.rpartition(":")[2] or each.rpartition("/")[2].rstrip(":") for each in self.functions})


def changed(options: Options, kernel: Kernel) -> Changed | None:
    """Return what has changed; None if nothing has, or if that is not known.

    A series, else what a git work tree has not committed, else its last commit, else what has changed in another tree
    since its last build. The cases of a mutation's entry come first anyway. Raises the errors of a series.
    """
    if options.mutation:
        return None
    if options.series:
        return _of_series(options, kernel.base_dir) if kernel.base_dir else None
    tree = Path(options.kernel or "").expanduser()
    if not options.kernel or not (tree / "Kconfig").is_file():  # a build directory is used as is
        return None
    try:
        return _of_tree(tree.resolve(), kernel.build_dir)
    except HarnessError as error:  # a repository without a commit, or no git: the order is all that it is for
        log.debug("what has changed in %s is not known: %s", tree, error)
        return None


def _of_series(options: Options, base: Path) -> Changed | None:
    change = options.change(silent)
    assert change is not None, "there is a series"
    fixed = Fixes(silent).files(base) if options.fixed else {}
    return _of("the series", difference.of_change(base, change.files(base), fixed))


def _of_tree(source: Path, build_dir: Path) -> Changed | None:
    if (source / ".git").exists():
        return _of("what is not committed", difference.since(source, "HEAD")) or _of_last_commit(source)
    names = [name for name in last_changed(build_dir) if name.endswith((".c", ".h"))]
    if not names or len(names) > MOST_FILES:
        return None
    return Changed("what was edited", frozenset(names), frozenset(f"{name}:" for name in names))


def _of_last_commit(source: Path) -> Changed | None:
    """Return what the last commit has changed; None for a merge, and for the first commit that git has."""
    _, *parents = run_git(source, "rev-list", "--parents", "--max-count=1", "HEAD")[-1].split()
    if len(parents) != 1:
        return None
    try:
        return _of("the last commit", difference.since(source, parents[0]))
    except HarnessError:  # a shallow clone lacks it
        return None


def _of(what: str, differences: Sequence[FileDifference]) -> Changed | None:
    if not differences or len(differences) > MOST_FILES:
        return None
    functions = {
        f"{each.name}:{name}"
        for each in differences
        if each.new is not None and each.name.endswith((".c", ".h"))
        for name, lines in function_lines(each.new)
        if {*lines} & {*each.touched}
    }
    return Changed(what, frozenset(each.name for each in differences), frozenset(functions))
