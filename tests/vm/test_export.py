# SPDX-License-Identifier: GPL-2.0-only
"""What an export is: a dma-buf of the size that was asked for, which is gone once it is closed."""

import pytest

from harness.cases.must import must, must_fail
from harness.session import DmaBuf, Nvme, Session

EXPORTER = "vfio_pci_core"


@pytest.fixture(params=["doorbells", "cmb"])
def what(request: pytest.FixtureRequest) -> str:
    """Which BAR is exported."""
    return str(request.param)


def export(nvme: Nvme, what: str) -> tuple[DmaBuf, int]:
    """The export, and the size that it must have."""
    if what == "doorbells":
        return nvme.export_doorbells(), 4096
    cmb = nvme.cmb()
    return nvme.device.export(cmb.region, [(cmb.offset, cmb.size)]), cmb.size


@pytest.mark.contract("export", "uapi.size", "uapi.open-flags")
def test_export_tells_its_size(nvme: Nvme, what: str) -> None:
    """An export of a BAR's range has that range's size, by lseek and in fdinfo, and names its exporter."""
    buffer, size = export(nvme, what)
    must(buffer.size() == size, "lseek tells the sum of the ranges", buffer.size())
    info = buffer.fdinfo()
    must(info["size"] == str(size), "fdinfo tells the sum of the ranges", info)
    must(info["exp_name"] == EXPORTER, "fdinfo names the exporter", info)
    must(buffer.cloexec(), "open_flags reach the fd", "O_CLOEXEC was lost")


@pytest.mark.contract("export", "uapi.size", "uapi.accepted")
def test_export_lives_until_closed(session: Session, nvme: Nvme, what: str) -> None:
    """An export shows in bufinfo while its fd is open, and no longer."""
    buffer, size = export(nvme, what)
    shown = [entry for entry in session.bufinfo() if int(entry["ino"]) == buffer.inode()]
    must([int(entry["size"]) for entry in shown] == [size], "an export is in bufinfo, with its size", shown)
    buffer.close()
    must(not session.bufinfo(), "a closed export is gone from bufinfo", session.bufinfo())


@pytest.mark.contract("export", "uapi.mmap")
def test_export_cannot_be_mapped_by_the_cpu(nvme: Nvme, what: str) -> None:
    """mmap of the dma-buf is refused: the region of the device is how the CPU gets at a BAR."""
    buffer, _ = export(nvme, what)
    with must_fail("EINVAL", "mmap of an exported dma-buf is refused"):
        buffer.mmap(4096)
