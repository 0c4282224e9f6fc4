# SPDX-License-Identifier: GPL-2.0-only
"""The vocabulary of cases: all that tests/vm imports besides ``harness.session`` and ``harness.witness``."""
