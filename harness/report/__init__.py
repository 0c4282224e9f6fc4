# SPDX-License-Identifier: GPL-2.0-only
"""A run, shown while it happens and recorded when it is over; knows of verdicts and events, and of nothing else."""

from harness.report.record import RunDirectory, load, to_json
from harness.report.terminal import Terminal
from harness.report.text import repeat_command, summarise

__all__ = ["RunDirectory", "Terminal", "load", "repeat_command", "summarise", "to_json"]
