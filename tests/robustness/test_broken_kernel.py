# SPDX-License-Identifier: GPL-2.0-only
"""A kernel with a bug put into it by hand is caught: FAIL, the broken sentence named, the evidence at hand."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commandline import CommandLine, Outcome

from harness.kernel import Kernel, build_module, with_modules
from harness.paths import VM_CASES
from harness.progress import silent

VFIO = "drivers/vfio/pci"
CORE = "vfio_pci_core"
MAKEFILE = """
obj-m := vfio-pci-core.o
vfio-pci-core-y := vfio_pci_core.o vfio_pci_intrs.o vfio_pci_rdwr.o vfio_pci_config.o vfio_pci_dmabuf.o
"""

BUGS = {
    "none": ("vfio_pci_core.c", "", ""),
    "reset-without-revoke": (
        "vfio_pci_core.c",
        "\tvfio_pci_dma_buf_move(vdev, true);\n\tret = pci_try_reset_function(vdev->pdev);\n",
        "\tret = pci_try_reset_function(vdev->pdev);\n",
    ),
    "always-bar0": (
        "vfio_pci_dmabuf.c",
        "\t\tpci_resource_start(pdev, region_index),\n",
        "\t\tpci_resource_start(pdev, 0),\n",
    ),
}
"""File of drivers/vfio/pci, what is there, what is put in its place."""


@pytest.fixture
def broken(tmp_path: Path, default_kernel: Kernel) -> Iterator[Callable[[str], Path]]:
    """Builds the default kernel with a bug; returns the build directory."""
    made: list[Kernel] = []

    def build(bug: str) -> Path:
        assert default_kernel.source_dir
        sources, build = tmp_path / bug, tmp_path / "build"
        sources.mkdir()
        for file in (default_kernel.source_dir / VFIO).glob("*.[ch]"):
            shutil.copyfile(file, sources / file.name)
        (sources / "Makefile").write_text(MAKEFILE)
        name, right, wrong = BUGS[bug]
        text = (sources / name).read_text()
        assert right in text
        (sources / name).write_text(text.replace(right, wrong, 1))
        (core,) = build_module(default_kernel, sources, silent)
        made.append(with_modules(default_kernel, {CORE: core}, build, silent))
        return build

    yield build
    for kernel in made:
        shutil.rmtree(kernel.image.parent)  # its place in the user's cache, which nobody will look for again


def reasons(outcome: Outcome, verdict: str) -> dict[str, str]:
    return {case["importer"]: case["reason"] for case in outcome.cases().values() if case["verdict"] == verdict}


def evidence(outcome: Outcome, source: str) -> dict[str, list[str]]:
    return {
        case["importer"]: [item["text"] for item in case["evidence"] if item["source"] == source]
        for case in outcome.cases().values()
    }


def test_reset_without_revoke(harness: CommandLine, broken: Callable[[str], Path]) -> None:
    """For each importer: the old mapping still rings, which the host's trace shows."""
    kernel = broken("reset-without-revoke")
    outcome = harness("run", "--kernel", kernel, VM_CASES / "test_revoke.py", "-k", "test_reset_revokes and not fire")
    assert outcome.code == 1
    failed = reasons(outcome, "FAIL")
    assert {"iommufd+edu", "iommufd+nvme", "rxe"} <= set(failed)
    for importer, reason in failed.items():
        assert reason.startswith("broken: a mapping made before VFIO_DEVICE_RESET does not reach the device after it")
        assert "the host saw sq 0 doorbell = " in reason
        assert len([text for text in evidence(outcome, "trace")[importer] if "sq 0 doorbell" in text]) >= 2


def test_export_of_the_wrong_bar(harness: CommandLine, broken: Callable[[str], Path]) -> None:
    """For each importer: what is written lands in BAR0, where the doorbells are, and not in the CMB."""
    kernel = broken("always-bar0")
    outcome = harness("run", "--kernel", kernel, VM_CASES / "test_cmb.py", "-k", "test_cmb_write")
    assert outcome.code == 1
    failed = reasons(outcome, "FAIL")
    assert {"iommufd+edu", "iommufd+nvme", "rxe"} <= set(failed)
    for importer, reason in failed.items():
        assert reason.startswith("broken: an importer's write lands exactly where it aims")
        assert any(text.startswith("Window.write(") for text in evidence(outcome, "guest")[importer])


def test_control(harness: CommandLine, broken: Callable[[str], Path]) -> None:
    """The same way round, without a bug: all is well, so it is the bug that is seen above."""
    outcome = harness(
        "run", "--kernel", broken("none"), VM_CASES, "-k", "test_cmb_write or test_reset_revokes and not fire"
    )
    assert outcome.code == 0, outcome.said
