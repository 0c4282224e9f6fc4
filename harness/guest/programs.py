# SPDX-License-Identifier: GPL-2.0-only
"""Run a program that the host sends."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from . import files

OUTPUT_LIMIT = 256 << 10
"""Bytes of the output that are returned, from its start."""


HUGE_PAGES = "/proc/sys/vm/nr_hugepages"


@contextmanager
def _reserved(huge_pages: int) -> Iterator[None]:
    """Reserve huge pages."""
    if not huge_pages:
        yield
        return
    files.write(HUGE_PAGES, str(huge_pages))
    try:
        if (got := int(files.read_text(HUGE_PAGES))) < huge_pages:
            raise MemoryError(f"the kernel reserved {got} of {huge_pages} huge pages")
        yield
    finally:
        files.write(HUGE_PAGES, "0")


def run(program: bytes, args: list[str], seconds: float, huge_pages: int = 0) -> tuple[int | None, str]:
    """Run the program, an ELF file, with ``args`` in an empty directory, and end all that it has started.

    ``huge_pages``: how many are reserved while it runs. Raises MemoryError if the guest has not enough memory.
    Returns its exit status, negative for a signal and None if it did not end within ``seconds``; and what it wrote to
    stdout and stderr.
    """
    import subprocess  # noqa: PLC0415 - these cost the emulated guest time, and few runs have programs
    import tempfile  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    with (
        _reserved(huge_pages),
        tempfile.TemporaryDirectory() as directory,
        tempfile.TemporaryFile() as output,
    ):
        path = Path(directory, "program")
        path.write_bytes(program)
        path.chmod(0o700)
        process = subprocess.Popen(
            [path, *args],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        return status, output.read(OUTPUT_LIMIT).decode(errors="replace")
