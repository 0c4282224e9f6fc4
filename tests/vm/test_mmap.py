# SPDX-License-Identifier: GPL-2.0-only
"""mmap of an export, on a kernel with the pending change ``mmap`` (vm-configs/contract.yaml)."""

from harness.cases.constants import PAGE
from harness.cases.marks import TRIGGERS, rows_in
from harness.cases.must import must, must_fail
from harness.session import Cmb, CpuMapping, DmaBuf, Nvme

rows = rows_in("mmap")


@rows("uapi.mmap-live")
def test_mmap_reaches_the_bar(nvme: Nvme, cmb: Cmb, cmb_buffer: DmaBuf) -> None:
    """A shared mmap reads and writes the BAR. A private mmap, and one of a revoked export, are refused."""
    mapping = cmb_buffer.map_cpu(2 * PAGE)
    mapping.store(PAGE + 8, b"from CPU")
    found = nvme.device.read(cmb.region, cmb.offset + PAGE + 8, 8)
    must(found == b"from CPU", "a store through an mmap reaches the BAR", found)
    nvme.device.write(cmb.region, cmb.offset + 16, b"from BAR")
    must((found := mapping.load(16, 8)) == b"from BAR", "a load through an mmap reads the BAR", found)
    with must_fail("EINVAL", "a private mmap is refused"):
        cmb_buffer.map_cpu(PAGE, shared=False)
    nvme.device.set_memory(False)
    with must_fail("ENODEV", "mmap of a revoked export is refused"):
        cmb_buffer.map_cpu(PAGE)
    nvme.device.set_memory(True)


def must_be_gone(mapping: CpuMapping, sentence: str) -> None:
    """State that no access through the mapping succeeds."""
    with must_fail("EFAULT", f"{sentence}: a load"):
        mapping.load(0, 8)
    with must_fail("EFAULT", f"{sentence}: a store"):
        mapping.store(0, bytes(8))


@rows("lifecycle.mmap")
def test_a_revoke_takes_the_pages(nvme: Nvme, cmb_buffer: DmaBuf) -> None:
    """A revoke takes the pages of an mmap away, whether they were used before or not. An un-revoke gives them back."""
    used, unused = cmb_buffer.map_cpu(PAGE), cmb_buffer.map_cpu(PAGE)
    for trigger in ("command-mem", "d3hot", "low-power", "close"):
        used.load(0, 8)
        action = TRIGGERS[trigger]
        action.act(nvme.device)
        for mapping in (used, unused):
            must_be_gone(mapping, f"{trigger} takes the pages of an mmap away")
        if action.undo:
            action.undo(nvme.device)
