# SPDX-License-Identifier: GPL-2.0-only
"""What a case may say: the only imports of tests/vm besides ``harness.session``."""
