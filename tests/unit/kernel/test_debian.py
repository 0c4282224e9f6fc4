# SPDX-License-Identifier: GPL-2.0-only
"""Which source package KERNEL=debian:VERSION means."""

import pytest

from harness.errors import UsageError
from harness.kernel.source import debian
from harness.progress import silent

# `apt-cache madison` as of the suites in debian.yaml, shortened
MADISON = """\
linux-source-6.1 |  6.1.192-2 | http://deb.debian.org/debian-security bookworm-security/main amd64 Packages
linux-source-6.1 |  6.1.192-1 | http://deb.debian.org/debian-security bookworm-security/main amd64 Packages
linux-source-6.12 | 6.12.117-1 | http://deb.debian.org/debian-security trixie-security/main amd64 Packages
linux-source-6.12 | 6.12.117-1~deb12u1 | http://deb.debian.org/debian-security bookworm-security/main amd64 Packages
linux-source-7.2 | 7.2.9-1~bpo13+1 | http://deb.debian.org/debian trixie-backports/main amd64 Packages
linux-source-7.2 | 7.2.12-1~bpo13+1 | http://deb.debian.org/debian trixie-backports/main amd64 Packages
linux-source-7.2 | 7.2.6-1~bpo13+1 | http://deb.debian.org/debian trixie-backports/main amd64 Packages
linux-source-7.3 | 7.3.4-1~bpo13+1 | http://deb.debian.org/debian trixie-backports/main amd64 Packages
linux-source | 7.3.4-1~bpo13+1 | http://deb.debian.org/debian trixie-backports/main amd64 Packages
"""
PACKAGES = list(debian.parse_madison(MADISON.splitlines()))


def test_the_metapackage_is_not_a_source() -> None:
    assert len(PACKAGES) == 8
    assert all(p.name != "linux-source" for p in PACKAGES)


@pytest.mark.parametrize(
    ("wanted", "version"),
    [
        ("7.3", "7.3.4-1~bpo13+1"),
        ("7.2", "7.2.12-1~bpo13+1"),  # 12 is newer than 9: numbers, not text
        ("7.2.6", "7.2.6-1~bpo13+1"),
        ("6.1", "6.1.192-2"),  # not 6.12
        ("6.1.192", "6.1.192-2"),
        ("7", "7.3.4-1~bpo13+1"),
        ("7.2.1", None),  # not 7.2.12
        ("8.0", None),
    ],
)
def test_the_newest_release_of_a_series_is_selected(wanted: str, version: str | None) -> None:
    chosen = debian.select(PACKAGES, wanted)
    assert (chosen.version if chosen else None) == version


def test_the_pinned_default_belongs_to_a_series() -> None:
    assert debian.archive().default.count(".") == 2


@pytest.mark.parametrize("wanted", ["", "sid", "7.2-rc1", "7.2 7.3", "../7.2"])
def test_a_malformed_version_is_refused(wanted: str) -> None:
    with pytest.raises(UsageError, match="not a version"):
        debian.obtain(wanted, silent)
