# SPDX-License-Identifier: GPL-2.0-only
"""The event stream and the verdicts as terminal, JSON and JUnit."""
