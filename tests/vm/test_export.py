# SPDX-License-Identifier: GPL-2.0-only
"""An export is a dma-buf of the requested size. It is gone once it is closed."""

import pytest

from harness.cases.constants import PAGE
from harness.cases.must import must, must_fail
from harness.session import DmaBuf, Nvme, Session

EXPORTER = "vfio_pci_core"


@pytest.fixture(params=["doorbells", "cmb"])
def what(request: pytest.FixtureRequest) -> str:
    """The part of the device that is exported."""
    return str(request.param)


def export(nvme: Nvme, what: str) -> tuple[DmaBuf, int]:
    """Export it. Returns the buffer and the size that it must have."""
    if what == "doorbells":
        return nvme.export_doorbells(), PAGE
    cmb = nvme.cmb()
    return nvme.device.export(cmb.region, [(cmb.offset, cmb.size)]), cmb.size


@pytest.mark.contract("export", "uapi.size", "uapi.open-flags")
def test_export_reports_its_size(nvme: Nvme, what: str) -> None:
    """lseek and fdinfo give the size of the exported range, and fdinfo names the exporter."""
    buffer, size = export(nvme, what)
    must(buffer.size() == size, "lseek gives the sum of the ranges", buffer.size())
    info = buffer.fdinfo()
    must(info["size"] == str(size), "fdinfo gives the sum of the ranges", info)
    must(info["exp_name"] == EXPORTER, "fdinfo names the exporter", info)
    must(buffer.cloexec(), "open_flags reach the fd", "O_CLOEXEC was lost")


@pytest.mark.contract("export", "uapi.size", "uapi.accepted")
def test_export_lives_until_closed(session: Session, nvme: Nvme, what: str) -> None:
    """bufinfo lists an export while its fd is open, and no longer."""
    buffer, size = export(nvme, what)
    shown = [entry for entry in session.bufinfo() if int(entry["ino"]) == buffer.inode()]
    must([int(entry["size"]) for entry in shown] == [size], "an export is in bufinfo, with its size", shown)
    buffer.close()
    must(not session.bufinfo(), "a closed export is gone from bufinfo", session.bufinfo())


@pytest.mark.contract("export", "uapi.mmap")
def test_export_cannot_be_mapped_by_the_cpu(nvme: Nvme, what: str) -> None:
    """mmap of the dma-buf is refused; the CPU reaches a BAR through the device's region."""
    buffer, _ = export(nvme, what)
    with must_fail("EINVAL", "mmap of an exported dma-buf is refused"):
        buffer.mmap(PAGE)
