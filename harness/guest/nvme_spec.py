# SPDX-License-Identifier: GPL-2.0-only
"""The part of the NVM Express base specification 1.4 that the driver uses: registers, commands, SGL descriptors."""

import struct
from typing import NamedTuple

# Controller registers, offsets in BAR0 (section 3.1)
CC, CSTS, AQA, ASQ, ACQ, CMBLOC, CMBSZ, CMBMSC = 0x14, 0x1C, 0x24, 0x28, 0x30, 0x38, 0x3C, 0x50
PMRCAP, PMRCTL, PMRSTS = 0xE00, 0xE04, 0xE08
DOORBELLS = 0x1000
REGISTERS = 0x2000  # bytes of BAR0: the registers' page and the doorbells'
CC_ENABLE = 1
CC_ENTRY_SIZES = 6 << 16 | 4 << 20  # 64-byte submission, 16-byte completion entries
CSTS_READY, CSTS_FATAL = 1, 2
CMBMSC_CRE, CMBMSC_CMSE = 1, 2  # registers enabled; memory space enabled at CBA
PMRCTL_ENABLE, PMRSTS_NOT_READY = 1, 1 << 8

SQE_SIZE, CQE_SIZE = 64, 16
CQE_PHASE = 14  # byte of the entry whose bit 0 is the phase tag
SQE = struct.Struct("<BBHIQQQQ6I")
CQE = struct.Struct("<IIHHHH")

# Opcodes (figures 139, 346)
CREATE_SQ, CREATE_CQ, IDENTIFY = 0x01, 0x05, 0x06
VIRTUALIZATION = 0x1C
WRITE, READ = 0x01, 0x02

# Virtualization Management (section 5.22): actions and resource types
PRIMARY_ALLOCATION, SECONDARY_ASSIGN, SECONDARY_ONLINE = 1, 8, 9
QUEUE_RESOURCES, INTERRUPT_RESOURCES = 0, 1

IDENTIFY_NAMESPACE, IDENTIFY_CONTROLLER = 0, 1

USES_SGL = 0x40  # PSDT in the command's flags
SGL_DATA, SGL_LAST_SEGMENT = 0x00, 0x30


class Command(NamedTuple):
    """A submission queue entry without its identifier. ``dptr``: PRP1 and PRP2, or one SGL descriptor."""

    opcode: int
    nsid: int = 0
    dptr: tuple[int, int] = (0, 0)
    cdw10: int = 0
    cdw11: int = 0
    cdw12: int = 0
    flags: int = 0

    def encode(self, cid: int) -> bytes:
        """Return the entry's 64 bytes."""
        return SQE.pack(
            self.opcode, self.flags, cid, self.nsid, 0, 0, *self.dptr, self.cdw10, self.cdw11, self.cdw12, 0, 0, 0
        )


def sgl_descriptor(iova: int, length: int, kind: int = SGL_DATA) -> bytes:
    """Return a descriptor's 16 bytes. Address and length are byte granular."""
    return struct.pack("<QI3xB", iova, length, kind)


def sq_doorbell(qid: int) -> int:
    """Return the offset in BAR0 of the tail doorbell of submission queue ``qid``, at stride 0."""
    return DOORBELLS + 8 * qid


def transfer(opcode: int, lba: int, blocks: int, dptr: tuple[int, int], flags: int = 0) -> Command:
    """Make a READ or WRITE of ``blocks`` blocks of namespace 1 from ``lba``."""
    return Command(opcode, 1, dptr, lba & 0xFFFFFFFF, lba >> 32, blocks - 1, flags)
