# SPDX-License-Identifier: GPL-2.0-only
"""Shows a run while it happens, and writes its record at the end: terminal, JSON, JUnit, KTAP and HTML."""

from harness.report.record import RunDirectory, load, to_json
from harness.report.terminal import Terminal
from harness.report.text import repeat_command, summarise

__all__ = ["RunDirectory", "Terminal", "load", "repeat_command", "summarise", "to_json"]
