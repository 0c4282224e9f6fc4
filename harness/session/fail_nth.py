# SPDX-License-Identifier: GPL-2.0-only
"""Fail the memory allocations of a case's calls, one at a time (harness/guest/fail_nth.py)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.session.session import Session


@dataclass(frozen=True)
class FailurePass:
    """One pass of a case with failures. A site is a call with its number in the case: ``VFIO_DEVICE_RESET 1``."""

    next: dict[str, int]
    """The allocation with which each site begins in the next pass; 0 if all its failures have been tried."""
    refused: dict[str, int]
    """How many failures refused each site. The agent repeated the call."""
    survived: list[str]
    """The failures in spite of which the case went on: ``VFIO_DEVICE_RESET 1, allocation 2``."""
    left: list[str]
    """The dma-bufs, pinned pages and module references that a refused call left behind."""


def begin_failures(session: Session, allowed: Mapping[str, Sequence[str]], first: Mapping[str, int]) -> None:
    """Begin a pass. ``allowed``: the calls, each with the errnos that it may give for want of memory.

    ``first``: ``FailurePass.next`` of the pass before.
    """
    session.agent.call("fail_nth", "begin", allowed=dict(allowed), first=dict(first))


def end_failures(session: Session) -> FailurePass:
    """End the pass. Returns its findings."""
    return FailurePass(**session.agent.call("fail_nth", "end"))
