# SPDX-License-Identifier: GPL-2.0-only
"""Match the patterns by which YAML files name cases: ids, in which ``*`` is any text."""

import re
from collections.abc import Iterable


def matches(patterns: Iterable[str], case_id: str) -> bool:
    """Check whether one of the patterns matches the whole id."""
    return any(re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), case_id) for pattern in patterns)
