# SPDX-License-Identifier: GPL-2.0-only
"""A program of the host, run in the guest."""

from collections.abc import Sequence
from typing import cast

from harness.escape import printable
from harness.session.session import Session

END_SECONDS = 10.0
"""For the transfer of the program and of its output, for a slowdown of 1."""


def run_program(
    session: Session, program: bytes, args: Sequence[str], seconds: float, huge_pages: int = 0
) -> tuple[int | None, str]:
    """Run an ELF file of up to 2 MiB in the guest, and end all that it has started. Its output becomes evidence.

    ``seconds``: its deadline, for a slowdown of 1. ``huge_pages``: how many are reserved while it runs. Returns its
    exit status, negative for a signal and None at the deadline; and its output, escaped and cut at 256 KiB. Raises what
    ``Agent.call`` raises.
    """
    patience = seconds * session.machine.slowdown
    status, output = cast(
        tuple[int | None, str],
        session.agent.call(
            "programs",
            "run",
            program=program,
            args=list(args),
            seconds=patience,
            huge_pages=huge_pages,
            timeout=seconds + END_SECONDS,
        ),
    )
    text = printable(output)
    for line in text.splitlines():
        session.agent.note(f"its output: {line}")
    return status, text
