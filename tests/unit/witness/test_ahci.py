# SPDX-License-Identifier: GPL-2.0-only
"""Test writes to an AHCI controller's ports, parsed from QEMU's trace."""

from harness.witness.ahci import PortWrite, parse
from harness.witness.tracelog import parse_line

TRACE = """
1928@1795205860.763852:ahci_port_write ahci(0x5581d9b5c2f0)[0]: port write [reg:PxCLB] @ 0x0: 0x00002000
1928@1795205860.763853:ahci_port_write ahci(0x5581d9b5c2f0)[5]: port write [reg:PxCMD] @ 0x18: 0x00000006
1928@1795205860.763854:ahci_port_write ahci(0x5581d9b5c2f0)[0]: port wr
1928@1795205860.763855:ahci_mem_write ahci(0x5581d9b5c2f0): write4 @ 0x100: 0x0000000000002000
"""


def test_port_writes_are_parsed() -> None:
    lines = [line for line in map(parse_line, TRACE.splitlines()) if line]
    assert list(parse(lines)) == [PortWrite(0, "PxCLB", 0x2000), PortWrite(5, "PxCMD", 6)]
    assert str(PortWrite(0, "PxCLB", 0x2000)) == "port 0 PxCLB = 0x2000"
