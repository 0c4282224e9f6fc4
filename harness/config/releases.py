# SPDX-License-Identifier: GPL-2.0-only
"""Ranges of kernel releases, written as PyPA version specifiers: ``>=7.2, <7.4``."""

import re
from typing import Annotated

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version
from pydantic import AfterValidator


def _checked(text: str) -> str:
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        raise ValueError(f"{text!r} is not a range of releases such as '>=7.2, <7.4'") from None
    return text


Releases = Annotated[str, AfterValidator(_checked)]
"""A range of releases, checked."""


_RELEASE = re.compile(r"(\d+(?:\.\d+)*)(?:-rc(\d+))?")


def is_release(text: str) -> bool:
    """Return whether the text begins as a kernel's release does."""
    return _RELEASE.match(text) is not None


def version(release: str) -> Version:
    """Return the version of a kernel's release without its local part: ``7.3.0-rc4-custom+`` is 7.3.0rc4."""
    found = _RELEASE.match(release)
    if not found:
        return Version("0")
    return Version(found[1] + (f"rc{found[2]}" if found[2] else ""))


def includes(releases: str, release: str) -> bool:
    """Check whether the range includes the kernel's release."""
    return SpecifierSet(releases).contains(version(release), prereleases=True)
