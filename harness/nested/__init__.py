# SPDX-License-Identifier: GPL-2.0-only
"""Runs the harness under KVM inside an emulated machine, on hosts that have no KVM of their own."""
