# SPDX-License-Identifier: GPL-2.0-only
"""Group equal splats: the kind of the report and its top three functions, without offsets."""

from harness.verdict import CaseRecord
from harness.witness.splat import parse_splat


def fingerprint(case: CaseRecord) -> str:
    """Return the fingerprint of the first splat of the case, e.g. ``kasan: f < g < h``; empty without a splat.

    It is equal on every build of a kernel: it has no offset, no line and no suffix of the compiler. The first splat
    counts, because the others may follow from it.
    """
    splats = (parse_splat(item.text) for item in case.evidence if item.source == "console")
    return next((splat.fingerprint for splat in splats if splat), "")
