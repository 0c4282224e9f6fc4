# SPDX-License-Identifier: GPL-2.0-only
"""Whether the catalogue still fits a kernel: each mutation applies, changes what it says, and compiles; so do fixes."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness import kernel
from harness.bugs import Bug, Mutation
from harness.cases.collect import collect
from harness.commands.bug_cases import require_cases
from harness.config import includes
from harness.errors import HarnessError, MissingPrerequisite, UsageError
from harness.kernel.source.resolve import BuildDirectory, SourceTree, release_of, resolve_kernel
from harness.progress import Emit, phase, silent


@dataclass(frozen=True)
class Finding:
    """What became of one entry. ``said``: what it changes, why it is not for this kernel, or what is wrong."""

    bug: str
    good: bool
    said: str

    def __str__(self) -> str:
        """One line, or more for a compiler's."""
        return f"{'ok   ' if self.good else 'ERROR'}  {self.bug}: {self.said}"


def check(entries: Sequence[Bug], kernel_name: str | None, *, build: bool, emit: Emit) -> Iterator[Finding]:
    """Check the entries against the source that KERNEL= names, and build each with ``build``.

    Raises UsageError for a kernel without a source, MissingPrerequisite for a host without the tools."""
    found = resolve_kernel(kernel_name, emit)
    if isinstance(found, BuildDirectory):
        raise UsageError(f"{found.origin} is a build directory: a mutation needs a source tree")
    release = release_of(found.path)
    cases = collect()
    with phase(emit, "bugs", release) as step:
        for number, entry in enumerate(entries):
            step.progress(entry.id, number / len(entries))
            try:
                require_cases(entry, cases)
                yield Finding(entry.id, True, _try(entry, found, kernel_name, release, build))
            except MissingPrerequisite:
                raise
            except HarnessError as error:
                yield Finding(entry.id, False, str(error))


def _try(entry: Bug, tree: SourceTree, kernel_name: str | None, release: str, build: bool) -> str:
    change: kernel.SourceChange
    if entry.mutation and includes(entry.mutation.kernels, release):
        change, said = Mutation.of(entry), f"changes {', '.join(entry.mutation.functions)}"
    elif entry.fix and entry.is_in(release):
        change, said = kernel.Series.load(str(entry.path.parent / entry.fix), silent), f"mended by {entry.fix}"
    else:
        return f"for kernels {entry.mutation.kernels}" if entry.mutation else "nothing to apply"
    began = time.monotonic()
    change.files(tree.path)
    if build:
        kernel.obtain(kernel.KernelSpec(kernel_name, entry.flavour, change), silent)
        said += f"; compiles ({time.monotonic() - began:.1f} s)"
    return said
