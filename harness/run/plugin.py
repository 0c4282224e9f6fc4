# SPDX-License-Identifier: GPL-2.0-only
"""The old entry point, for environments that were installed before hooks.py; goes with the next release."""

pytest_plugins = ["harness.run.hooks"]
