# SPDX-License-Identifier: GPL-2.0-only
"""How a case states a sentence of the contract (docs/contract.md), and the exception for a broken one."""

from collections.abc import Iterator
from contextlib import contextmanager

from harness.errors import KernelErrno
from harness.session import recording


class ContractBroken(AssertionError):
    """The kernel broke the contract. The message is the broken sentence, and then what was seen instead."""


def must(holds: object, sentence: str, seen: object = "", *, rule: recording.Rule = "") -> None:
    """State a sentence of the contract.

    ``rule``: what kind of sentence it is, for a recording of the case. Raises ContractBroken with the sentence and what
    was ``seen`` if it does not hold.
    """
    recording.check(sentence, holds, seen, rule)
    if not holds:
        raise ContractBroken(f"broken: {sentence}" + (f"; seen: {seen}" if seen != "" else ""))


@contextmanager
def must_fail(errno_name: str, sentence: str) -> Iterator[None]:
    """State that the kernel refuses the call in the block with exactly this errno, e.g. ``"ENODEV"``.

    Raises ContractBroken if it gives another errno or accepts the call.
    """
    try:
        with recording.expect(errno_name, sentence):
            yield
    except KernelErrno as refusal:
        must(refusal.name == errno_name, sentence, f"{refusal.call} gave {refusal.name}, not {errno_name}")
    else:
        must(False, sentence, f"accepted, not {errno_name}")
