# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness reproducer check``: each reproducer of the catalogue, with the bug and without it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness import kernel, paths
from harness.bugs import Bug, load_bug, reproducer
from harness.commands.repro import sides
from harness.config import load_machine
from harness.errors import HarnessError, UsageError
from harness.kernel.source.resolve import release_of, resolve_kernel
from harness.progress import Emit
from harness.reproducer.outcome import Outcome
from harness.run.options import Options
from harness.verdict import KERNEL_AT_FAULT, Verdict

RunAlone = Callable[[Path, Options, Emit], Outcome]


@dataclass(frozen=True)
class Checked:
    """The verdicts of one reproducer."""

    bug: str
    with_it: Outcome
    control: Outcome | None
    """On a kernel without the bug; None if none is known."""
    why: str
    """Why there is no control."""

    @property
    def complaint(self) -> str:
        """What is wrong; empty if the program shows the bug, and only where it is."""
        if self.with_it.verdict not in KERNEL_AT_FAULT:
            return f"it does not show the bug: {self.with_it.reason}"
        if self.control and self.control.verdict is not Verdict.PASS:
            return f"it is {self.control.verdict} without the bug: {self.control.reason}"
        return ""

    @property
    def exit_code(self) -> int:
        """0 if it is as expected, 1 if not, and 3 if a program did not get as far as the bug."""
        outcomes = [self.with_it, *([self.control] if self.control else [])]
        if self.complaint and any(each.verdict is Verdict.ERROR for each in outcomes):
            return HarnessError.exit_code
        return int(bool(self.complaint))

    def __str__(self) -> str:
        """One line: both verdicts, and the complaint."""
        control = str(self.control.verdict) if self.control else self.why
        line = f"{'ok' if not self.complaint else 'WRONG':5}  {self.bug}: {self.with_it.verdict}, control {control}"
        return f"{line}; {self.complaint}" if self.complaint else line


def chosen_bugs(names: Sequence[str]) -> list[Bug]:
    """Return the bugs with a reproducer, or the named ones. UsageError if one has none."""
    for name in names:
        if reproducer(load_bug(name).id) is None:
            raise UsageError(f"{name} has no reproducer: {paths.bugs_dir()} has no {name}.c")
    return [load_bug(name) for name in names or sorted(path.stem for path in paths.bugs_dir().glob("*.c"))]


def check_all(bugs: Sequence[Bug], options: Options, run_alone: RunAlone, emit: Emit) -> Iterator[Checked]:
    """Run each reproducer on both kernels. ``options``: those that the user gave. Raises the errors of a build."""
    pinned = release_of(resolve_kernel(None, emit).path)
    for bug in bugs:
        source = reproducer(bug.id)
        assert source, "chosen_bugs has found it"
        own = replace(options, machine=bug.machine, flavour=bug.flavour)
        spec = kernel.KernelSpec(own.kernel, own.flavour, arch=load_machine(own.machine).arch)
        chosen = sides(bug, own, kernel.obtain(spec, emit).release, pinned)
        with_it = run_alone(source, chosen.bad, emit)
        control = run_alone(source, chosen.control, emit) if chosen.control else None
        yield Checked(bug.id, with_it, control, chosen.why)
