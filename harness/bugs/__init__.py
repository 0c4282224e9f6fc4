# SPDX-License-Identifier: GPL-2.0-only
"""Bugs that reviewers reported: the catalogue, and each bug put back."""

from harness.bugs.catalogue import Bug, as_json, as_text, bug, bugs, in_full
from harness.bugs.mutation import Mutation, MutationError

__all__ = ["Bug", "Mutation", "MutationError", "as_json", "as_text", "bug", "bugs", "in_full"]
