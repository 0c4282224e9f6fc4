# SPDX-License-Identifier: GPL-2.0-only
"""Case ids that have changed (``vm-configs/renamed-cases.yaml``), so that an old run record can still be compared."""

import re
from functools import cache
from typing import Self

from pydantic import model_validator

from harness import paths
from harness.config import Model, load

PATH = paths.VM_CONFIGS / "renamed-cases.yaml"


class RenamedCases(Model):
    """The file."""

    renamed: dict[str, str]
    """Old id: new id. Each ``*`` of the old id matches any text; the same ``*`` of the new id repeats that text."""

    @model_validator(mode="after")
    def _same_number_of_wildcards(self) -> Self:
        for old, new in self.renamed.items():
            if old.count("*") != new.count("*"):
                raise ValueError(f"{old!r} and {new!r} must have the same number of *")
        return self

    def current_id(self, case_id: str) -> str:
        """Return the id that the case has today. The first entry that matches decides."""
        for old, new in self.renamed.items():
            found = re.fullmatch(re.escape(old).replace(r"\*", "(.*)"), case_id)
            if found:
                parts = zip(new.split("*"), [*found.groups(), ""], strict=True)
                return "".join(literal + text for literal, text in parts)
        return case_id


@cache
def renamed_cases() -> RenamedCases:
    """Read the file. Raises UsageError naming file, line and key."""
    return load(PATH, RenamedCases)
