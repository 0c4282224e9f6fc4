# SPDX-License-Identifier: GPL-2.0-only
"""Bugs that reviewers have reported: the catalogue, and the mutations that put them back into a kernel's source."""

from harness.bugs.catalogue import Bug, Expectation, as_json, as_text, as_yaml, load_bug, load_bugs
from harness.bugs.fixes import Fixes, fixable
from harness.bugs.mutation import Mutation, MutationError
from harness.bugs.reproducers import reproducer

__all__ = [
    "Bug",
    "Expectation",
    "Fixes",
    "Mutation",
    "MutationError",
    "as_json",
    "as_text",
    "as_yaml",
    "fixable",
    "load_bug",
    "load_bugs",
    "reproducer",
]
