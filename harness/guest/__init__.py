# SPDX-License-Identifier: GPL-2.0-only
"""The agent that runs in the guest. Standard library only; imports nothing from the rest of the harness."""
