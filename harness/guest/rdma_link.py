# SPDX-License-Identifier: GPL-2.0-only
"""Make an rxe link over a network device, by netlink (drivers/infiniband/core/nldev.c, nldev_newlink)."""

import errno
import os
import socket
import struct

from . import files
from .kernel import named
from .uapi import verbs as uapi

NETLINK_RDMA = 20
NLM_F_REQUEST_ACK = 1 | 4
HEADER = struct.Struct("<IHHII")  # struct nlmsghdr
IPV4_GID = "0000:0000:0000:0000:0000:ffff:"


def netdev(bdf: str) -> str:
    """Return the name of the network device of the virtio NIC at ``bdf``."""
    device = f"/sys/bus/pci/devices/{bdf}"
    (virtio,) = (name for name in files.names(device) if name.startswith("virtio"))
    return files.names(f"{device}/{virtio}/net")[0]


def add_rxe(link: str, device: str) -> None:
    """Create the RDMA device ``link`` over the network device. Does nothing if it exists."""
    attributes = ((uapi.RDMA_NLDEV_ATTR_DEV_NAME, link), (uapi.RDMA_NLDEV_ATTR_NDEV_NAME, device))
    body = b"".join(_attribute(*each) for each in (*attributes, (uapi.RDMA_NLDEV_ATTR_LINK_TYPE, uapi.LINK_TYPE_RXE)))
    kind = uapi.RDMA_NL_NLDEV << 10 | uapi.RDMA_NLDEV_CMD_NEWLINK
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_RDMA) as netlink, named("RDMA_NLDEV_CMD_NEWLINK"):
        netlink.settimeout(5)
        netlink.send(HEADER.pack(HEADER.size + len(body), kind, NLM_F_REQUEST_ACK, 1, 0) + body)
        error = -struct.unpack_from("<i", netlink.recv(4096), HEADER.size)[0]
        if error not in (0, errno.EEXIST):
            raise OSError(error, os.strerror(error))


def ipv4_gid(link: str) -> tuple[int, str]:
    """Return index and text of the link's RoCE v2 GID with the network device's IPv4 address."""
    for index in range(16):
        text = files.read_text(f"/sys/class/infiniband/{link}/ports/1/gids/{index}").strip()
        if text.startswith(IPV4_GID):
            return index, text
    raise LookupError(f"{link} has no GID with an IPv4 address")


def _attribute(number: int, text: str) -> bytes:
    """Encode a string as a netlink attribute, padded to 4 bytes."""
    value = text.encode() + b"\0"
    size = 4 + len(value)
    return struct.pack("<HH", size, number) + value + bytes(-size % 4)
