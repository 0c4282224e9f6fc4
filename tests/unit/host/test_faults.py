# SPDX-License-Identifier: GPL-2.0-only
"""The host's faults in what programs print."""

import pytest

from harness.errors import MissingPrerequisite
from harness.host.faults import host_fault


@pytest.mark.parametrize(
    "line",
    [
        "ld: final link failed: No space left on device",
        "fatal error: error writing to /tmp/x.s: Disk quota exceeded",
        "E: You don't have enough free space in /var/cache/apt/archives/.",
    ],
)
def test_a_full_disk(line: str) -> None:
    assert "no space left in /" in str(host_fault(["  CC  a.o", line, "make: *** [x] Error 1"]))


@pytest.mark.parametrize(
    ("line", "package"),
    [
        ("/bin/sh: 1: flex: not found", "flex"),
        ("make[2]: bc: No such file or directory", "bc"),
        ("<stdin>:1:10: fatal error: gelf.h: No such file or directory", "libelf-dev"),
    ],
)
def test_a_missing_tool(line: str, package: str) -> None:
    fault = host_fault([line])
    assert isinstance(fault, MissingPrerequisite)
    assert fault.hint == f"apt-get install {package}"


def test_a_killed_compiler() -> None:
    fault = host_fault(["gcc: fatal error: Killed signal terminated program cc1"])
    assert "out of memory" in str(fault)


def test_an_error_of_the_source_is_not_a_fault_of_the_host() -> None:
    assert host_fault(["a.c:1:1: error: expected ';' before '}' token", "make: *** [a.o] Error 1"]) is None
