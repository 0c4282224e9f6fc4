# SPDX-License-Identifier: GPL-2.0-only
"""Fails with some seeds: of ten in a row, with three."""

from harness.cases.must import must
from harness.session import Session


def test_sometimes(session: Session, seed: int) -> None:
    """Three of ten seeds break it."""
    must(seed % 10 >= 3, "the seed is a good one", seed)


def test_always(session: Session, seed: int) -> None:
    """No seed breaks it."""
