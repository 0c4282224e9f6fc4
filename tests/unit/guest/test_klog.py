# SPDX-License-Identifier: GPL-2.0-only
"""Records of the kernel's log."""

from harness.guest.klog import message


def test_the_text_of_a_record_stands_before_its_dictionary() -> None:
    record = b"6,339,5140900,-;vfio-pci 0000:01:00.0: a; b\n SUBSYSTEM=pci\n DEVICE=+pci:0000:01:00.0\n"
    assert message(record) == "vfio-pci 0000:01:00.0: a; b"


def test_a_record_without_a_dictionary() -> None:
    assert message(b"4,1,2,c,caller=T1;text\n") == "text"
