# SPDX-License-Identifier: GPL-2.0-only
"""What ``vfio-harness review`` looks at: a series on its base, or a git work tree since a commit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.bugs import Fixes
from harness.errors import UsageError
from harness.kernel import SourceChange, SourceChanges
from harness.kernel.source import difference
from harness.kernel.source.difference import FileDifference
from harness.kernel.source.resolve import BuildDirectory, resolve_kernel
from harness.progress import Emit
from harness.run.options import Options


@dataclass(frozen=True)
class Reviewed:
    """A changed source."""

    change: SourceChange | None
    """What makes it of the source of KERNEL=; None if that is the changed source."""
    patches: tuple[str, ...]
    """The subjects of the series, or the commit since which the tree has changed."""
    differences: Sequence[FileDifference]
    """The files that differ from the base."""

    def with_part(self, part: SourceChange) -> SourceChange:
        """Return the change with another one on top."""
        return SourceChanges([*([self.change] if self.change else []), part])

    @cached_property
    def sources(self) -> Mapping[str, bytes]:
        """The changed C files, as they are after the change."""
        return {each.name: each.new for each in self.differences if each.new is not None and _is_c(each.name)}

    @cached_property
    def changed(self) -> Mapping[str, set[int]]:
        """The numbers of the changed lines, of each changed C file."""
        return {each.name: {*each.changed} for each in self.differences if each.name in self.sources}


def _is_c(name: str) -> bool:
    return name.endswith((".c", ".h"))


def reviewed(options: Options, since: str | None, emit: Emit) -> Reviewed:
    """Read what is reviewed.

    Raises UsageError without exactly one of a series and ``since``, for a build directory, and for a tree without git;
    KernelError if the series does not apply.
    """
    if bool(options.series) == bool(since):
        raise UsageError("review takes either a series or --since REF", hint="vfio-harness review --help")
    found = resolve_kernel(options.kernel, emit)
    if isinstance(found, BuildDirectory):
        raise UsageError(
            f"{found.origin} is a build directory, and a review needs a source",
            hint="KERNEL= the source tree that it was built from" + (f": {found.source}" if found.source else ""),
        )
    if since:
        if options.fixed:
            raise UsageError("--fixed changes the source, so the lines since a commit are other lines: leave one out")
        if not (found.path / ".git").exists():
            raise UsageError(
                f"--since {since}: {found.origin} is no git work tree", hint="name one with --kernel, or a series"
            )
        return Reviewed(None, (f"since {since}",), difference.since(found.path, since))
    change = options.change(emit)
    assert change is not None, "there is a series"
    fixed = Fixes(emit).files(found.path) if options.fixed else {}
    differences = difference.of_change(found.path, change.files(found.path), fixed)
    return Reviewed(change, tuple(change.patches), differences)
