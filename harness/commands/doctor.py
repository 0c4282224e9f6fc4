# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness doctor``: every prerequisite of host and kernel, and what mends the missing ones."""

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from harness import image, kernel, vm
from harness.errors import HarnessError, MissingPrerequisite
from harness.progress import Emit
from harness.run.setup import Options

Finding = tuple[str, HarnessError | None]
"""What is needed, and None or what is wrong with it."""


def findings(options: Options) -> Iterator[Finding]:
    """Look at everything, room by room; an earlier room's trouble does not hide a later one's."""
    yield from vm.prerequisites(str(options.qemu) if options.qemu else None)
    yield from image.prerequisites()
    for need in kernel.prerequisites():
        lost = f" (optional: {need.optional})" if need.optional else ""
        missing = MissingPrerequisite(f"missing{lost}", hint=f"apt-get install {need.package}")
        yield need.name, None if need.present else missing


def examine(options: Options, emit: Emit) -> int:
    """Print the findings, each once, and what a kernel that was named can do; returns the exit code.

    0, or 3 if the host lacks something needed. Raises what is wrong with the kernel, which names the option to set.
    """
    console = Console(highlight=False, markup=False, soft_wrap=True)
    bad = False
    for name, trouble in dict(findings(options)).items():
        if trouble is None:
            console.print(Text("ok     ", "green"), name)
            continue
        bad = bad or "optional" not in str(trouble)
        console.print(Text("missing", "red"), f"{name}: {trouble}")
        if trouble.hint:
            console.print(f"        fix: {trouble.hint}")
    if options.kernel is not None:
        _tell_features(console, kernel.obtain(kernel.KernelSpec(options.kernel, options.flavour), emit))
    return HarnessError.exit_code if bad else 0


def _tell_features(console: Console, built: kernel.Kernel) -> None:
    console.print(f"kernel {built.release} ({built.origin}):")
    for feature, present in built.features.items():
        console.print(Text("has    ", "green") if present else Text("lacks  ", "yellow"), feature)
    if built.rxe.reason:
        console.print(f"        rxe: {built.rxe.reason}")
