# SPDX-License-Identifier: GPL-2.0-only
"""Test the parsers of kmemleak's report and of QEMU's warnings."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import BlindWitness
from harness.witness.leaks import KnownLeak, LeakedObject, beyond, parse_kmemleak, parse_report
from harness.witness.qemu_stderr import added, parse_stderr

KMEMLEAK = """unreferenced object 0xffff888100a1b200 (size 128):
  comm "python3", pid 77, jiffies 4294942326
  hex dump (first 32 bytes):
    5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a 5a  ZZZZZZZZZZZZZZZZ
  backtrace (crc 1a2b3c4d):
    __kmalloc_cache_noprof+0x2a1/0x310
    vfio_pci_core_feature_dma_buf+0x8c/0x4e0 [vfio_pci_core]
"""


def test_kmemleak() -> None:
    (leak,) = parse_kmemleak(KMEMLEAK)
    assert str(leak) == (
        "128 bytes leaked by python3, allocated in __kmalloc_cache_noprof < vfio_pci_core_feature_dma_buf"
    )
    assert leak.born == 4294942326
    assert parse_kmemleak(KMEMLEAK.replace("jiffies", "age"))[0].born is None


def test_report_in_another_layout_is_no_empty_report() -> None:
    assert parse_report("") == []
    assert len(parse_report(KMEMLEAK)) == 1
    with pytest.raises(BlindWitness, match="blind witness, kmemleak"):
        parse_report(KMEMLEAK.replace("unreferenced object", "unreferenced object at"))


def test_blocked_reentrant_access_invalidates_the_case() -> None:
    remark, blocked = parse_stderr(
        "qemu-system-x86_64: vtd_iommu_translate: detected translation failure (dev=02:00:00, iova=0x2000000)\n"
        "qemu-system-x86_64: warning: Blocked re-entrant IO on MemoryRegion: nvme at addr: 0x1000\n"
    )
    assert remark.invalidates is None
    assert blocked.invalidates is not None


def test_only_what_was_added_to_stderr_counts() -> None:
    assert added("one\n", "one\ntwo\n") == "two\n"
    assert added("one\ntwo\n", "two\nthree\n") == "three\n"
    assert added("one\n", "other\n") == "other\n"


@given(st.text(), st.text())
def test_no_text_raises(one: str, other: str) -> None:
    for text in (one, KMEMLEAK[: len(other)] + one):
        parse_kmemleak(text)
        parse_stderr(text)
    assert (one + other).endswith(added(one, one + other))


def test_a_known_leak_is_excused_up_to_a_number() -> None:
    known = KnownLeak(32, frozenset({"sg_kmalloc", "map"}))
    one = LeakedObject(32, "t", ("kmalloc", "sg_kmalloc", "map"))
    bigger, elsewhere = replace(one, size=64), replace(one, frames=("kmalloc", "map"))
    assert beyond([one] * 3, known, 3) == []
    assert beyond([one] * 3, known, 2) == [one]
    assert beyond([one, bigger, elsewhere], known, 3) == [bigger, elsewhere]
