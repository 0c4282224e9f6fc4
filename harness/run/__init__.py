# SPDX-License-Identifier: GPL-2.0-only
"""What happens to a case: options, set-up, machines, verdicts."""
