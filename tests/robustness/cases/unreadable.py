# SPDX-License-Identifier: GPL-2.0-only
"""A case file that fails as it is read."""

import no_such_module  # noqa: F401


def test_never(session):
    pass
