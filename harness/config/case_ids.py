# SPDX-License-Identifier: GPL-2.0-only
"""How YAML files name cases: by their ids, ``*`` being any text."""

import re
from collections.abc import Iterable


def matches(patterns: Iterable[str], case_id: str) -> bool:
    """Whether one of the patterns is the whole id."""
    return any(re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), case_id) for pattern in patterns)
