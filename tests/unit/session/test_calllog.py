# SPDX-License-Identifier: GPL-2.0-only
"""Calls into the guest as lines of evidence."""

import errno

from harness.errors import KernelErrno
from harness.session import calllog
from harness.session.wire import Ref


def test_a_call_is_formatted_with_arguments_and_result() -> None:
    assert calllog.call("DmaBuf", "mmap", {"length": 4096}, calllog.result_text(None)) == "DmaBuf.mmap(length=0x1000)"
    assert calllog.call("iommufd", "Iommufd", {}, calllog.result_text(Ref(7))) == "iommufd.Iommufd() = #7"


def test_an_errno_is_named() -> None:
    refused = calllog.error_text(KernelErrno("IOMMU_IOAS_MAP_FILE", errno.ENODEV))
    assert calllog.call("Importer", "attach", {"start": 0}, refused) == "Importer.attach(start=0): ENODEV"


def test_long_values_are_cut() -> None:
    assert calllog.value(b"\x01\x00\x00\x00") == "01000000"
    assert calllog.value(bytes(9)) == "<9 bytes>"
    assert len(calllog.value("x" * 1000)) <= calllog.MAX_VALUE
