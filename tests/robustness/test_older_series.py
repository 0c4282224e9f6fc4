# SPDX-License-Identifier: GPL-2.0-only
"""Test the first series that exported BARs (August 2022), on Linux 6.1.

It has its own uAPI, groups instead of cdevs, and move_notify instead of invalidate_mappings. The suite finds the bugs
that reviewers found. With those bugs fixed, the cases pass.

The one kernel build from scratch takes 5 minutes on two cores. Later builds compile only what a patch touches.
"""

import shutil
from pathlib import Path

import pytest
from commandline import CommandLine, Finished

from harness import paths
from harness.errors import HarnessError
from harness.kernel import KernelSpec, obtain
from harness.kernel.source import debian
from harness.kernel.source.series import Series
from harness.progress import silent

KERNEL = "debian:6.1"
V1 = paths.TOP.parent / "shared" / "series" / "v1-on-6.1.patch"
FIXES = Path(__file__).with_name("v1-fixes")

CASES = (
    "dma-api and (cmb_write or doorbell or (maps_again and not close) or close_revokes)"
    " or gives_the_memory or notify_once or refusal or accepted or bounds"
)

REVIEWED_BUGS = {
    "test_cmb_write[dma-api+edu]": "broken: an importer's write lands exactly where it aims",
    "test_unmapping_gives_the_memory_back": "broken: an unmap frees the scatter list",
    "test_notify_once[reset]": "broken: reset notifies each attachment twice",
    "test_the_same_attachment_maps_again[dma-api+edu-command-mem]": "broken: while command-mem lasts the buffer cannot",
    "test_the_same_attachment_maps_again[dma-api+edu-reset]": "the kernel refused: dma_buf_map_attachment gave ENODEV",
}
"""What the three bugs of the reviews break. The region index is not stored; the scatter list leaks; the test of
``revoked`` is inverted."""
OTHER_BUGS = {
    "test_close_revokes[dma-api+edu]": ("SPLAT", "NULL pointer dereference in vfio_pci_dma_buf_attach"),
    "test_notify_once[d3hot]": ("FAIL", "broken: d3hot notifies each attachment once"),
}
"""Cases that fail by further bugs."""
RIGHT = [
    "test_doorbell_reaches_the_controller[dma-api+edu]",
    "test_no_doorbell_no_completion[dma-api+edu]",
    "test_notify_once[close]",
    "test_refusal[uapi.header]",
    "test_refusal[uapi.operation]",
    "test_refusal[uapi.region]",
    "test_refusal[uapi.range]",
    "test_refusal[uapi.bounds]",
    "test_bounds",
    "test_accepted",
]


@pytest.fixture(scope="module")
def source() -> Path:
    """Return the source of Linux 6.1. Skip if it cannot be fetched."""
    try:
        return debian.obtain(KERNEL.partition(":")[2], silent)[1]
    except HarnessError as error:
        pytest.skip(f"the source of Linux 6.1 is not here: {error}")


@pytest.fixture(scope="module")
def v1(source: Path) -> Path:
    """Return the series, after building it."""
    if not V1.is_file():
        pytest.skip(
            f"{V1} is not here: the series 0-v1-9e6e1739ed95+5fa-vfio_dma_buf_jgg@nvidia.com of lore.kernel.org, "
            "rebased on Linux 6.1"
        )
    build(V1)
    return V1


def build(series: Path) -> None:
    """Build the kernel outside ``harness()``, whose deadline is too short for it."""
    obtain(KernelSpec(KERNEL, change=Series.load(str(series), silent)), silent)


def run(harness: CommandLine, series: Path) -> Finished:
    outcome = harness("run", "--kernel", KERNEL, "--series", series, "-k", CASES)
    assert outcome.code == 1, outcome.output
    assert "ERROR" not in outcome.verdicts().values(), outcome.output
    for name, (verdict, reason) in OTHER_BUGS.items():
        case = outcome.cases()[name]
        assert case["verdict"] == verdict
        assert case["reason"].startswith(reason)
    return outcome


def test_its_bugs_are_found(harness: CommandLine, v1: Path) -> None:
    """Each bug fails its own case. Cases of what the series does right pass."""
    outcome = run(harness, v1)
    for name, reason in REVIEWED_BUGS.items():
        case = outcome.cases()[name]
        assert case["verdict"] == "FAIL", name
        assert case["reason"].startswith(reason)
    assert {name: outcome.verdicts()[name] for name in RIGHT} == dict.fromkeys(RIGHT, "PASS")


def test_what_the_kernel_lacks_is_skipped(harness: CommandLine, v1: Path) -> None:
    """SKIP names the reason: a feature that 6.1 lacks, or a request that a uAPI of one range cannot express."""
    lacks = {
        "test_reset_revokes[iommufd+nvme]": "this kernel lacks iommufd: ",
        "test_reset_revokes[rxe]": "this kernel lacks rxe: its rxe has no dma-buf MRs: ",
        "test_revoke_waits_for_the_last_importer": "this kernel lacks awaited_revoke: ",
        "test_attach_needs_peer2peer": "this kernel lacks importer_rules: ",
        "test_many_ranges": "this kernel lacks many_ranges: its export takes one range",
    }
    names = " or ".join(name.partition("[")[0] for name in lacks)
    outcome = harness(
        "run",
        "--kernel",
        KERNEL,
        "--series",
        v1,
        "-k",
        f"({names}) and not dma-api and not edu and not while_ringing and not full_rate",
    )
    assert outcome.code == 0, outcome.output
    assert set(outcome.cases()) == set(lacks)
    for name, case in outcome.cases().items():
        assert case["verdict"] == "SKIP"
        assert case["reason"].startswith(lacks[name])


def test_with_fixes_it_passes(harness: CommandLine, v1: Path, tmp_path: Path) -> None:
    """A directory holds the series and, on top, the fixes of the three bugs."""
    series = tmp_path / "v1-fixed"
    shutil.copytree(FIXES, series)
    shutil.copy(v1, series / "0000-v1.patch")
    build(series)
    verdicts = run(harness, series).verdicts()
    assert {name: verdicts[name] for name in REVIEWED_BUGS} == dict.fromkeys(REVIEWED_BUGS, "PASS")
    assert {name: verdicts[name] for name in RIGHT} == dict.fromkeys(RIGHT, "PASS")


def test_without_a_series_every_case_is_skipped(harness: CommandLine, source: Path) -> None:
    """Linux 6.1 has no export: one sentence, exit code 1, and a record of every case as SKIP with that sentence."""
    outcome = harness("run", "--kernel", KERNEL, "-k", "doorbell")
    assert outcome.code == 1
    assert outcome.output.count("has no vfio-pci dma-buf export") == 1
    assert set(outcome.verdicts().values()) == {"SKIP"}
    assert all("has no vfio-pci dma-buf export" in case["reason"] for case in outcome.cases().values())
