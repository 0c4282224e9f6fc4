# SPDX-License-Identifier: GPL-2.0-only
"""Review a series of ten edits, five of them in code that no case reaches: all five are named (``make review-test``).

Takes minutes: the whole suite runs on a kernel with gcov, whose first build takes as long as any.
"""

import json
from pathlib import Path

import pytest
from commandline import CommandLine

from harness.commands.review_runs import FLAVOUR
from harness.kernel import KernelSpec, obtain
from harness.progress import silent

SERIES = Path(__file__).with_name("review") / "ten-edits.patch"
PCI = "drivers/vfio/pci"
UNREACHED = {
    f"{PCI}/vfio_pci_rdwr.c": "if (count >= 8)",
    f"{PCI}/vfio_pci_core.c": "vdev->vf_token->uuid = uuid;",
    f"{PCI}/vfio_pci_config.c": "addr = addr ^ PCI_VPD_ADDR_F;",
    "drivers/dma-buf/dma-buf.c": "dmabuf->vmapping_counter++;",
    "drivers/iommu/iommufd/ioas.c": "return -EINVAL;",
}
"""The edits where no case comes. gcov by itself has no counter for the last one."""
DEADLINE_S = 1800.0


@pytest.fixture
def reviews(harness: CommandLine) -> CommandLine:
    """Return the command line, with time for a review. The kernel is built before."""
    obtain(KernelSpec(flavour=FLAVOUR), silent)
    harness.deadline_s = DEADLINE_S
    return harness


def test_every_edit_where_no_case_comes_is_named(reviews: CommandLine) -> None:
    outcome = reviews("review", SERIES, "--no-mutants")
    assert outcome.code == 0, outcome.output
    for text in UNREACHED.values():
        shown = next(line for line in outcome.output.splitlines() if text in line and line.lstrip()[0] != "-")
        assert shown.startswith("not reached"), shown
    record = json.loads((outcome.results / "latest-review" / "review.json").read_text())
    assert {each["file"]: each["text"].strip() for each in record["unreached"]} == UNREACHED
    assert (record["changed"], record["reached"]) == (10, 5)
    assert record["cover_letter"] in outcome.output
    assert (outcome.results / "latest-review" / "review.html").is_file()


def test_a_fault_in_a_changed_line_is_caught_or_named(reviews: CommandLine) -> None:
    """Few cases run, so some faults survive: each is printed below its line."""
    outcome = reviews("review", SERIES, "-k", "doorbell_reaches or notify_once")
    assert outcome.code == 0, outcome.output
    record = json.loads((outcome.results / "latest-review" / "review.json").read_text())
    assert record["mutants"] == record["caught"] + len(record["survived"])
    assert record["caught"] > 0
    for each in record["survived"]:
        assert f"not tested: {each['what']}" in outcome.output
