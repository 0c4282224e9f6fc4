# SPDX-License-Identifier: GPL-2.0-only
"""The one table of options: each field of ``Options`` is an option of the command line, of pytest and of make.

A field gives the click option of each command, the option of the pytest plugin, the variable of the Makefile and the
part of the "again: make vm-test ..." lines. To add an option, add a field.
"""

from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from random import SystemRandom
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from harness import paths
from harness.bugs import Fixes, Mutation, load_bug
from harness.cases.suites import DEFAULT_SUITE
from harness.config import DEFAULT_MACHINE
from harness.kernel import Flavour, Series, SourceChange, SourceChanges
from harness.progress import Emit
from harness.run.option_row import PYTEST, Option, Use, never, option, takes


def new_seed() -> int:
    """Draw a seed for a run that names none."""
    return SystemRandom().randrange(1 << 32)


_ALONE = "reproducer run"
_CHECK = "reproducer check"
_BOOT = ("run", "shell", "bench", "doctor", _ALONE, PYTEST)
_CATALOGUE = ("repro", "mutants", "audit", "bugs mail", _CHECK)


@dataclass(frozen=True)
class Options:
    """The user's choices. None means that the default is found later, e.g. the pinned kernel."""

    machine: str = option(
        DEFAULT_MACHINE,
        "The machine to boot: a name in vm-configs/, or a YAML file.",
        takes(
            *_BOOT,
            "build",
            "bisect",
            "check",
            "review",
            "kvm-test",
            repro=Use(default_from="the entry's"),
            reproducer_run=Use(default_from=f"the bug's, else {DEFAULT_MACHINE}"),
            counts=Use(default_from="intel-iommu-pt, whose DMA API maps many ranges"),
        ),
        make="MACHINE",
    )
    kernel: str | None = option(
        None,
        "The kernel to test: a source tree, a build directory, a commit (PATH@REF or git:URL@REF) or debian:VERSION.  "
        "[default: the pinned kernel]",
        takes(
            *_BOOT,
            "build",
            "check",
            "counts",
            "kvm-test",
            review=Use(
                "The base of the series, or with --since a git work tree: a source tree, a commit or debian:VERSION.  "
                "[default: the pinned kernel]"
            ),
            repro=Use(
                "The kernel: a source tree, a commit or debian:VERSION.",
                default_from="the entry's, else the pinned one",
            ),
            mutants=Use("The kernel: a source tree, a commit or debian:VERSION.", default_from="the pinned kernel"),
            bugs_check=Use("The kernel: a source tree, a commit or debian:VERSION.", default_from="the pinned kernel"),
            bugs_mail=Use(
                "The kernel: a source tree, a commit or debian:VERSION.",
                default_from="the entry's, else the pinned one",
            ),
            audit=Use("The kernel, in place of the argument.", default_from="the pinned kernel"),
        ),
        make="KERNEL",
    )
    flavour: Flavour = option(
        "release",
        "The kernel's configuration: release, debug with KASAN and lockdep, coverage with gcov, or selftest with "
        "IOMMUFD_TEST, for --suite kselftest-iommu.",
        takes(
            *_BOOT,
            "build",
            "bisect",
            "check",
            "counts",
            "kvm-test",
            repro=Use(default_from="the entry's"),
            reproducer_run=Use(default_from="the bug's, else release"),
            mutants=Use(default_from="the entries'"),
        ),
        make="FLAVOUR",
    )
    accel: Literal["auto", "kvm", "tcg"] = option(
        "auto",
        "QEMU's accelerator. auto uses KVM if a kernel boots under it.",
        takes(*_BOOT, *_CATALOGUE, "bisect", "check", "review"),
        make="ACCEL",
    )
    cpu_features: str | None = option(
        None,
        "Features to add to the machine's CPU model, or to remove from it, e.g. -xsave,-avx for a KVM without XSAVE.",
        takes(*_BOOT, "counts", *_CATALOGUE, "bisect", "check", "review", "kvm-test"),
        metavar="FEATURES",
        make="CPU_FEATURES",
    )
    qemu: str | None = option(
        None,
        "QEMU's binary, or debian:VERSION, e.g. debian:11.1.  [default: $QEMU, the machine's own, or the one in PATH]",
        takes(*_BOOT, "counts", *_CATALOGUE, "bisect", "check", "review", "kvm-test"),
        make="QEMU",
    )
    series: str | None = option(
        None,
        "Patches to apply to the kernel's source first: an mbox, a directory, a patch, or a message-id for b4.",
        takes(*_BOOT, "build", "audit", "counts", bisect=Use("Patches to apply to every commit first.")),
        make="SERIES",
    )
    mutation: str | None = option(
        None,
        "Put this bug of vm-configs/bugs back into the kernel.",
        takes(*_BOOT, "build", "counts"),
        metavar="ID",
        make="MUTATION",
    )
    fixed: bool = option(
        False,
        "Apply the catalogue's fix of each known bug to the kernel's source first, so that none hides another.",
        takes(*_BOOT, "counts", "build", "mutants", "review"),
        metavar="1",
        make="FIXED",
    )
    fail_nth: bool = option(
        False,
        "Run each case with every memory allocation of its calls failing in turn. Needs --flavour debug or coverage.",
        takes("run", PYTEST),
        make="FAIL_NTH",
    )
    gdb: int | None = option(
        None,
        "Open QEMU's gdb stub on 127.0.0.1:PORT.",
        takes("run", "shell", PYTEST),
        metavar="PORT",
        minimum=1,
        maximum=65535,
    )
    expression: str | None = option(
        None,
        "Run only the cases whose name matches, as with pytest's -k.",
        takes(
            "run",
            "check",
            "review",
            "kvm-test",
            bisect=Use("The cases that judge a commit, as with pytest's -k.", required=True),
        ),
        flags=["-k"],
        metavar="EXPR",
        make="K",
        again=never,  # the line names its case
    )
    suite: str = option(
        DEFAULT_SUITE,
        "Run the cases of this suite of vm-configs/suites.yaml.",
        takes("run", "bisect", "check", PYTEST),
        make="SUITE",
    )
    seed: int | None = option(
        None,
        "The random seed of the suites stress and model.  [default: a new one for each run]",
        takes("run", "bisect", "check", PYTEST),
        make="SEED",
        again=lambda options: options.suite != DEFAULT_SUITE,
        draw=new_seed,
    )
    program: Path | None = option(
        None,
        "With --suite model: run exactly the program in this file, instead of random ones.",
        takes("run", PYTEST),
        metavar="FILE",
        make="PROGRAM",
        again=never,  # the line names the program that failed
    )
    focus: bool = option(
        False,
        "Run only the cases that cover the machine's focus: rows of the contract.",
        takes("run", PYTEST),
    )
    shard: str | None = option(
        None,
        "Run only part I of N of the cases, balanced by their durations in results/latest. `merge` joins the parts.",
        takes("run"),
        metavar="I/N",
    )
    repeat: int = option(
        1,
        "Run each case N times, with another seed each time, and report how often it fails.",
        takes("run", "bisect"),
        metavar="N",
        make="REPEAT",
        again=never,  # the line repeats one failure
        minimum=1,
    )
    until_fail: bool = option(
        False,
        "With --repeat: stop at the first failure, KNOWN included.",
        takes("run", "bisect"),
        metavar="1",
        make="UNTIL_FAIL",
        again=never,
    )
    fail_fast: bool = option(
        False,
        "Stop at the first FAIL, SPLAT, HANG, CRASH or ERROR.",
        takes("run", PYTEST),
        flags=["-x", "--fail-fast"],
    )
    verbose: bool = option(
        False,
        "List the cases that passed, too, in the closing table.",
        takes("run"),
        flags=["-v", "--verbose"],
    )
    jobs: int | None = option(
        None,
        "The number of machines that run in parallel.  [default: by processors and cases, at most 8]",
        takes(
            "run",
            mutants=Use("The number of mutants that run in parallel.", default=2),
            audit=Use("The number of runs in parallel.", default=2),
            review=Use("The number of mutants that run in parallel.", default=2),
        ),
        metavar="N",
        make="JOBS",
        again=never,
        minimum=1,
    )
    base_vs_series: bool = option(
        False,
        "Run the kernel with and without --series, and report what differs.",
        takes("run"),
    )
    bisect: bool = option(
        False,
        "Use the exit codes that `git bisect run` expects.",
        takes("run", PYTEST),
    )
    show_command: bool = option(
        False,
        "Print QEMU's command line and exit.",
        takes("run"),
    )
    fail_after: int | None = option(
        None,
        "Stop after this many cases with FAIL, SPLAT, HANG, CRASH or ERROR.",
        takes("run"),
        metavar="N",
        hidden=True,
    )
    until_changed: Path | None = option(
        None,
        "Stop at the first case that says another thing than in this report.json. Cases that it lacks do not count.",
        takes("run"),
        metavar="FILE",
        hidden=True,
    )
    no_counters: bool = option(
        False,
        "Do not keep the counters of a kernel with gcov.",
        takes("run"),
        hidden=True,
    )
    required: bool = option(
        False,
        "Run only the cases that vm-configs/kvm-test.yaml requires, or CASES.",
        takes("kvm-test"),
    )
    emulated_kvm: bool = option(
        False,
        "The virtualisation that KVM uses is emulated: a guest that resets without a panic proves nothing.",
        takes("run"),
        hidden=True,
    )
    run_directory: Path | None = option(
        None,
        "Write the results into this directory, instead of a new one in results/.",
        takes("run", "kvm-test"),
        hidden=True,
    )
    error_file: Path | None = option(
        None,
        "If an error leaves the run without a report, write it to this file as JSON.",
        takes("run", "kvm-test"),
        hidden=True,
    )

    def change(self, emit: Emit) -> SourceChange | None:
        """Load the change of the kernel's source: the fixes, the series, then the mutation; None without any.

        Raises what ``Series.load`` and the catalogue raise.
        """
        parts: list[SourceChange] = [Fixes(emit)] if self.fixed else []
        parts += [Series.load(self.series, emit)] if self.series else []
        parts += [Mutation.of(load_bug(self.mutation))] if self.mutation else []
        return SourceChanges(parts) if len(parts) > 1 else next(iter(parts), None)

    def arguments(self, command: str = "run") -> list[str]:
        """Write the options as arguments of a subcommand; defaults, and options that it lacks, are left out."""
        chosen = ((row, getattr(self, row.name)) for row in table(type(self)) if command in row.commands)
        return [word for row, value in chosen if value != row.default for word in row.words(value)]

    def make_variables(self) -> dict[str, str]:
        """Return the variables of ``make vm-test`` that repeat this run; defaults are left out."""
        rows = (row for row in table(type(self)) if row.make and row.again(self))
        chosen = {row.make: getattr(self, row.name) for row in rows if getattr(self, row.name) != row.default}
        return {str(name): "1" if value is True else str(value) for name, value in chosen.items()}

    def again_settings(self) -> dict[str, str]:
        """Return the settings that an "again:" line repeats: make's variables, or flags where there is no Makefile."""
        variables = self.make_variables()
        if not paths.INSTALLED:
            return variables
        rows = {row.make: row for row in table(type(self)) if row.make in variables}
        flags = {str(make): row.long or row.flags[0] for make, row in rows.items()}
        return {flags[make]: "" if rows[make].kind is bool else value for make, value in variables.items()}


def table(options: type[Options] = Options) -> list[Option]:
    """Read the table off the fields of ``Options``, or of a class derived from it."""
    hints = get_type_hints(options)
    rows = []
    for each in fields(options):
        row = dict(each.metadata["row"])
        row["flags"] = row["flags"] or (f"--{each.name.replace('_', '-')}",)
        assert each.default is not MISSING
        rows.append(Option(name=each.name, kind=_without_none(hints[each.name]), default=each.default, **row))
    return rows


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, UnionType):
        (hint,) = [part for part in get_args(hint) if part is not NoneType]
    return hint
