# SPDX-License-Identifier: GPL-2.0-only
"""One booted machine with its guest agent, and typed handles on what the agent holds."""
