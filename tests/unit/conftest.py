# SPDX-License-Identifier: GPL-2.0-only
"""Settings of all unit tests."""

from hypothesis import settings

# hypothesis gives each example 200 ms of real time, which says something about the host's load, not about the harness.
settings.register_profile("unit", deadline=None)
settings.load_profile("unit")
