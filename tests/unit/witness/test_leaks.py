# SPDX-License-Identifier: GPL-2.0-only
"""What a case left behind, from the guest's own files; and QEMU's warnings."""

from hypothesis import given
from hypothesis import strategies as st

from harness.witness.leaks import DmaBuf, Snapshot, left_behind, parse_bufinfo, parse_kmemleak, parse_modules
from harness.witness.qemu_stderr import added, parse_stderr

# In the form of drivers/dma-buf/dma-buf.c dma_buf_debug_show, Linux 7.2.
BUFINFO = """
Dma-buf Objects:
size    \tflags   \tmode    \tcount   \texp_name\tino     \tname
00004096\t00080002\t00080007\t00000002\tvfio_pci_core\t00000012\t<none>
\tAttached Devices:
\t0000:02:00.0
\tinfiniband1
Total 2 devices attached

16777216\t00000002\t00080007\t00000001\tvfio_pci_core\t00000013\tcmb
\tAttached Devices:
Total 0 devices attached


Total 2 objects, 16781312 bytes
"""

MODULES = """vfio_pci 16384 2 - Live 0xffffffffc0a00000
vfio_pci_core 90112 1 vfio_pci, Live 0xffffffffc0900000
rdma_rxe 204800 0 - Live 0xffffffffc0800000 (O)
built_in_like 4096 - - Live 0xffffffffc0700000
"""

KMEMLEAK = """unreferenced object 0xffff888100a1b200 (size 128):
  comm "python3", pid 77, jiffies 4294942326
  hex dump (first 32 bytes):
    5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a  ZZZZZZZZZZZZZZZZ
  backtrace (crc 1a2b3c4d):
    __kmalloc_cache_noprof+0x2a1/0x310
    vfio_pci_core_feature_dma_buf+0x8c/0x4e0 [vfio_pci_core]
"""


def test_bufinfo() -> None:
    assert parse_bufinfo(BUFINFO) == (
        DmaBuf(4096, 2, "vfio_pci_core", 12, "<none>", ("0000:02:00.0", "infiniband1")),
        DmaBuf(16777216, 1, "vfio_pci_core", 13, "cmb"),
    )


def test_modules() -> None:
    assert parse_modules(MODULES) == {"vfio_pci": 2, "vfio_pci_core": 1, "rdma_rxe": 0}


def test_kmemleak() -> None:
    (leak,) = parse_kmemleak(KMEMLEAK)
    assert str(leak) == (
        "128 bytes leaked by python3, allocated in __kmalloc_cache_noprof < vfio_pci_core_feature_dma_buf"
    )
    assert leak.born == 4294942326
    assert parse_kmemleak(KMEMLEAK.replace("jiffies", "age"))[0].born is None


def test_what_is_left_behind() -> None:
    before = Snapshot(parse_bufinfo(BUFINFO)[1:], {"vfio_pci": 1, "rdma_rxe": 3})
    after = Snapshot(parse_bufinfo(BUFINFO), {"vfio_pci": 2, "rdma_rxe": 2, "vfio": 1})
    assert left_behind(before, before) == []
    assert left_behind(before, after, modules={"vfio_pci"}) == [
        "left behind: dma-buf 12 of vfio_pci_core: 4096 bytes, 2 references, attached to 0000:02:00.0, infiniband1",
        "left behind: module vfio_pci has 2 references, 1 before",
    ]
    assert left_behind(before, after)[-1] == "left behind: module vfio has 1 references, 0 before"


def test_a_blocked_reentrant_access_spoils_the_case() -> None:
    remark, spoiler = parse_stderr(
        "qemu-system-x86_64: vtd_iommu_translate: detected translation failure (dev=02:00:00, iova=0x2000000)\n"
        "qemu-system-x86_64: warning: Blocked re-entrant IO on MemoryRegion: nvme at addr: 0x1000\n"
    )
    assert remark.spoils is None
    assert spoiler.spoils is not None


def test_only_what_was_added_to_stderr_counts() -> None:
    assert added("one\n", "one\ntwo\n") == "two\n"
    assert added("one\ntwo\n", "two\nthree\n") == "three\n"
    assert added("one\n", "other\n") == "other\n"


@given(st.text(), st.text())
def test_no_text_raises(one: str, other: str) -> None:
    for text in (one, BUFINFO[: len(one)] + one, MODULES[: len(one)] + other, KMEMLEAK[: len(other)] + one):
        left_behind(Snapshot(), Snapshot(parse_bufinfo(text), parse_modules(text)))
        parse_kmemleak(text)
        parse_stderr(text)
    assert (one + other).endswith(added(one, one + other))
