# SPDX-License-Identifier: GPL-2.0-only
"""include/uapi/rdma: rdma_user_ioctl_cmds.h, ib_user_ioctl_cmds.h, ib_user_ioctl_verbs.h, rdma_netlink.h"""

from ctypes import c_uint16 as u16
from ctypes import c_uint32 as u32
from ctypes import c_uint64 as u64
from ctypes import sizeof
from typing import ClassVar

from ..kernel import Ioctl, Struct, iowr


class Attr(Struct):
    """``ib_uverbs_attr``: ``data`` holds a value of up to 8 bytes, an object's handle, or a pointer."""

    _fields_: ClassVar = [("attr_id", u16), ("len", u16), ("flags", u16), ("attr_data", u16), ("data", u64)]


class Header(Struct):
    """``ib_uverbs_ioctl_hdr``; its attributes follow."""

    _fields_: ClassVar = [
        ("length", u16), ("object_id", u16), ("method_id", u16), ("num_attrs", u16),
        ("_reserved1", u64), ("driver_id", u32), ("_reserved2", u32),
    ]  # fmt: skip


RDMA_VERBS_IOCTL = iowr("\x1b", 1, sizeof(Header))
UVERBS_ATTR_F_MANDATORY = 1
RDMA_DRIVER_RXE = 14

UVERBS_OBJECT_MR = 7
UVERBS_METHOD_MR_DESTROY = Ioctl("UVERBS_METHOD_MR_DESTROY", 1)
UVERBS_ATTR_DESTROY_MR_HANDLE = 0
UVERBS_METHOD_REG_DMABUF_MR = Ioctl("UVERBS_METHOD_REG_DMABUF_MR", 4)
# enum uverbs_attrs_reg_dmabuf_mr_cmd_attr_ids
(
    UVERBS_ATTR_REG_DMABUF_MR_HANDLE,
    UVERBS_ATTR_REG_DMABUF_MR_PD_HANDLE,
    UVERBS_ATTR_REG_DMABUF_MR_OFFSET,
    UVERBS_ATTR_REG_DMABUF_MR_LENGTH,
    UVERBS_ATTR_REG_DMABUF_MR_IOVA,
    UVERBS_ATTR_REG_DMABUF_MR_FD,
    UVERBS_ATTR_REG_DMABUF_MR_ACCESS_FLAGS,
    UVERBS_ATTR_REG_DMABUF_MR_RESP_LKEY,
    UVERBS_ATTR_REG_DMABUF_MR_RESP_RKEY,
) = range(9)
UVERBS_METHOD_REG_MR = Ioctl("UVERBS_METHOD_REG_MR", 5)
# enum uverbs_attrs_reg_mr_cmd_attr_ids
(
    UVERBS_ATTR_REG_MR_HANDLE,
    UVERBS_ATTR_REG_MR_PD_HANDLE,
    UVERBS_ATTR_REG_MR_DMA_HANDLE,
    UVERBS_ATTR_REG_MR_IOVA,
    UVERBS_ATTR_REG_MR_ADDR,
    UVERBS_ATTR_REG_MR_LENGTH,
    UVERBS_ATTR_REG_MR_ACCESS_FLAGS,
    UVERBS_ATTR_REG_MR_FD,
    UVERBS_ATTR_REG_MR_FD_OFFSET,
    UVERBS_ATTR_REG_MR_RESP_LKEY,
    UVERBS_ATTR_REG_MR_RESP_RKEY,
) = range(11)

# rdma_netlink.h
RDMA_NL_NLDEV = 5
RDMA_NLDEV_CMD_NEWLINK = 3
RDMA_NLDEV_ATTR_DEV_NAME = 2
RDMA_NLDEV_ATTR_NDEV_NAME = 51
RDMA_NLDEV_ATTR_LINK_TYPE = 65
LINK_TYPE_RXE = "rxe"

IB_UVERBS_ACCESS_LOCAL_WRITE, IB_UVERBS_ACCESS_REMOTE_WRITE, IB_UVERBS_ACCESS_REMOTE_READ = 1, 2, 4
IB_UVERBS_ACCESS_REMOTE_ATOMIC = 8

# enum ib_wc_status (include/rdma/ib_verbs.h), which rdma-core calls ibv_wc_status
WC_STATUS = (
    "IBV_WC_SUCCESS",
    "IBV_WC_LOC_LEN_ERR",
    "IBV_WC_LOC_QP_OP_ERR",
    "IBV_WC_LOC_EEC_OP_ERR",
    "IBV_WC_LOC_PROT_ERR",
    "IBV_WC_WR_FLUSH_ERR",
    "IBV_WC_MW_BIND_ERR",
    "IBV_WC_BAD_RESP_ERR",
    "IBV_WC_LOC_ACCESS_ERR",
    "IBV_WC_REM_INV_REQ_ERR",
    "IBV_WC_REM_ACCESS_ERR",
    "IBV_WC_REM_OP_ERR",
    "IBV_WC_RETRY_EXC_ERR",
    "IBV_WC_RNR_RETRY_EXC_ERR",
)
