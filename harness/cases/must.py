# SPDX-License-Identifier: GPL-2.0-only
"""How a case states a sentence of the contract (docs/contract.md), and how a broken one is named."""

from collections.abc import Iterator
from contextlib import contextmanager

from harness.errors import KernelErrno


class ContractBroken(AssertionError):
    """The kernel broke the contract; the message is the broken sentence, then what was seen instead."""


def must(holds: object, sentence: str, seen: object = "") -> None:
    """State a sentence of the contract; if it does not hold, raise ContractBroken with it and what was ``seen``."""
    if not holds:
        raise ContractBroken(f"broken: {sentence}" + (f"; seen: {seen}" if seen != "" else ""))


@contextmanager
def must_fail(errno_name: str, sentence: str) -> Iterator[None]:
    """The kernel must refuse what the block asks for, with exactly this errno (``"ENODEV"``)."""
    try:
        yield
    except KernelErrno as refusal:
        must(refusal.name == errno_name, sentence, f"{refusal.call} gave {refusal.name}, not {errno_name}")
    else:
        must(False, sentence, f"accepted, {errno_name} was due")
