# SPDX-License-Identifier: GPL-2.0-only
"""Calls into the guest as lines of evidence."""

import errno

from harness.errors import KernelErrno
from harness.session import told
from harness.session.wire import Ref


def test_a_call_reads_as_it_was_made() -> None:
    assert told.call("DmaBuf", "mmap", {"length": 4096}, told.answer(None)) == "DmaBuf.mmap(length=0x1000)"
    assert told.call("iommufd", "Iommufd", {}, told.answer(Ref(7))) == "iommufd.Iommufd() = #7"


def test_an_errno_is_named() -> None:
    refused = told.refusal(KernelErrno("IOMMU_IOAS_MAP_FILE", errno.ENODEV))
    assert told.call("Importer", "attach", {"start": 0}, refused) == "Importer.attach(start=0): ENODEV"


def test_data_is_short() -> None:
    assert told.value(b"\x01\x00\x00\x00") == "01000000"
    assert told.value(bytes(9)) == "<9 bytes>"
    assert len(told.value("x" * 1000)) <= told.MAX_VALUE
