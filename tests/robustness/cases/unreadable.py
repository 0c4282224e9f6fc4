# SPDX-License-Identifier: GPL-2.0-only
"""A case file that cannot be imported."""

import no_such_module  # noqa: F401


def test_never(session):
    pass
