# SPDX-License-Identifier: GPL-2.0-only
"""A failed build blames the source or the host. The logs are make's own, of 7.2.12 with one thing broken in each."""

from pathlib import Path

import pytest

from harness.errors import HarnessError, KernelBuildError, MissingPrerequisite
from harness.kernel.build.diagnose import build_failure

LOGS = Path(__file__).parent.parent / "data" / "kernel"


def _failure(name: str) -> HarnessError:
    lines = (LOGS / f"{name}.txt").read_text().splitlines()
    return build_failure(Path("/src/linux"), lines, Path("build.log"))


@pytest.mark.parametrize(
    ("log", "quote"),
    [
        (
            "compile",
            "drivers/vfio/pci/vfio_pci_dmabuf.c:28:22: error: implicit declaration of function 'nosuch' "
            "[-Werror=implicit-function-declaration]\n"
            "   28 |         int broken = nosuch(1)\n"
            "      |                      ^~~~~~",
        ),
        ("undefined", 'ERROR: modpost: "nosuch_symbol" [drivers/vfio/pci/vfio-pci-core.ko] undefined!'),
        (
            "link",
            "ld: drivers/dma-buf/dma-buf.o: in function `foo_vfio':\n"
            "dma-buf.c:(.text+0x18e5): undefined reference to `nosuch_symbol'",
        ),
        (
            "norule",
            "make[6]: *** No rule to make target 'drivers/vfio/pci/vfio_pci_kore.o', "
            "needed by 'drivers/vfio/pci/vfio-pci-core.o'.  Stop.",
        ),
    ],
)
def test_the_first_error_of_the_source_is_quoted(log: str, quote: str) -> None:
    error = _failure(log)
    assert isinstance(error, KernelBuildError)
    assert str(error) == f"/src/linux does not build:\n{quote}"
    assert error.hint == "the whole output: build.log"


def test_kconfig_errors_are_quoted_with_file_and_line() -> None:
    error = _failure("kconfig")
    assert isinstance(error, KernelBuildError)
    assert 'drivers/vfio/Kconfig:2: unknown statement "menuconfigg"' in str(error)


@pytest.mark.parametrize(("log", "package"), [("flex", "flex"), ("bc", "bc"), ("gelf", "libelf-dev")])
def test_a_missing_tool_is_the_hosts_fault(log: str, package: str) -> None:
    error = _failure(log)
    assert isinstance(error, MissingPrerequisite)
    assert error.hint == f"apt-get install {package}"


def test_a_full_disk_is_the_hosts_fault() -> None:
    error = _failure("nospace")
    assert not isinstance(error, KernelBuildError)
    assert "no space left" in str(error)


def test_an_unknown_failure_quotes_the_last_line() -> None:
    error = build_failure(Path("tree"), ["something", "odd"], Path("log"))
    assert str(error) == "tree does not build:\nodd"
