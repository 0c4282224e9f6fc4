# SPDX-License-Identifier: GPL-2.0-only
"""Builds and caches the guest's root file system."""
