# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness build``: build the guest image and the kernel, so that a run finds both in the cache."""

from typing import Any

import click

from harness import config, image, kernel
from harness.progress import Emit, Note
from harness.report import Terminal
from harness.run.options import Options
from harness.run.read_options import given, takes_options


@click.command()
@takes_options("build")
@click.option("--guest-image-only", is_flag=True, help="Build no kernel.")
def build(*, guest_image_only: bool, **values: Any) -> None:
    """Build the guest image and the kernel, and run nothing.

    A CI system then shows a kernel that does not build as a step of its own. The exit code is 1 if the kernel does not
    build or lacks the feature, 2 for wrong usage, and 3 if the host failed.
    """
    options = Options(**given(values))
    with Terminal(options.again_settings()) as terminal:
        build_into_cache(options, terminal.emit, guest_image_only=guest_image_only)


def build_into_cache(options: Options, emit: Emit, *, guest_image_only: bool = False) -> None:
    """Build what a run with these options boots. Raises HarnessError and its subclasses."""
    arch = config.load_machine(options.machine).arch
    guest = image.obtain(emit, arch)
    guest.agent()
    emit(Note(f"guest    {guest.root}"))
    if guest_image_only:
        return
    built = kernel.obtain(kernel.KernelSpec(options.kernel, options.flavour, options.change(emit), arch=arch), emit)
    emit(Note(f"kernel   {built.release} ({built.origin}), {options.flavour}"))
    for patch in built.patches:
        emit(Note(f"patch    {patch}"))
