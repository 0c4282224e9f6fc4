# SPDX-License-Identifier: GPL-2.0-only
"""Registered dma-bufs of an io_uring: the ring against the host's own kernel, requests against a fake ring and disk."""

import errno
from collections.abc import Iterator
from ctypes import sizeof
from typing import Any

import pytest

from harness.guest import dmabuf, files, io_uring, pci
from harness.guest.dmabuf import DmaBuf
from harness.guest.io_uring import CHUNK, SLOTS, BlockImporter, Ring
from harness.guest.kernel import Struct
from harness.guest.resource import Resource, close_all
from harness.guest.rpc import Refused
from harness.guest.uapi import io_uring as uapi

IORING_OP_NOP = 0
BLOCK = 512


@pytest.mark.parametrize(
    ("struct", "size"),
    [
        (uapi.Params, 120),
        (uapi.Sqe, 64),
        (uapi.Cqe, 16),
        (uapi.RsrcRegister, 32),
        (uapi.RsrcUpdate2, 32),
        (uapi.RegbufDesc, 80),
    ],
)
def test_structures_are_as_large_as_those_of_the_header(struct: type[Struct], size: int) -> None:
    assert sizeof(struct) == size


@pytest.fixture
def ring() -> Iterator[Ring]:
    """A ring of this host's kernel, which may forbid it."""
    try:
        made = Ring()
    except OSError as refusal:
        pytest.skip(f"no io_uring here: {refusal}")
    yield made
    made.close()


def test_requests_complete_also_after_the_ring_is_full_once(ring: Ring) -> None:
    assert [ring.run(uapi.Sqe(opcode=IORING_OP_NOP)) for _ in range(20)] == [0] * 20


def test_a_request_that_the_kernel_refuses_has_its_errno(ring: Ring) -> None:
    assert ring.run(uapi.Sqe(opcode=uapi.IORING_OP_READ_FIXED, fd=-1, len=BLOCK)) == -errno.EBADF


def test_a_kernel_without_registered_dma_bufs_refuses_the_registration(ring: Ring) -> None:
    with pytest.raises(OSError, match="io_uring_register") as refused:
        ring.set_buffer(0, uapi.RegbufDesc(type=uapi.IO_REGBUF_TYPE_DMABUF, dmabuf_fd=-1, target_fd=-1))
    assert refused.value.errno in (errno.EINVAL, errno.EBADF)  # EBADF from 7.4 on


class FakeKernel:
    """A ring and a disk, with buffers by the numbers of their fds. A released buffer stays attached for a while.

    ``results``: of the next requests, which succeed without.
    """

    def __init__(self) -> None:
        self.buffers: dict[int, bytearray] = {}
        self.slots: dict[int, int] = {}
        self.stored = bytearray(CHUNK)
        self.results: list[int] = []
        self.requests: list[tuple[int, int, int]] = []
        self.lingering = 0

    def attached(self) -> int:
        """Count the attachments; those that linger are gone at the next count but two."""
        self.lingering = max(self.lingering - 1, 0)
        return len(self.slots) + self.lingering

    def set_buffer(self, slot: int, buffer: uapi.RegbufDesc) -> None:
        if buffer.type == uapi.IO_REGBUF_TYPE_EMPTY:
            del self.slots[slot]
            self.lingering = 3
            return
        if buffer.dmabuf_fd not in self.buffers:
            raise OSError(errno.ENODEV, "", "io_uring_register")
        assert slot not in self.slots
        self.slots[slot] = buffer.dmabuf_fd

    def run(self, entry: uapi.Sqe) -> int:
        self.requests.append((entry.opcode, entry.addr, entry.len))
        if self.results:
            return self.results.pop(0)
        part = slice(entry.addr, entry.addr + entry.len)
        buffer = self.buffers[self.slots[entry.buf_index]]
        if entry.opcode == uapi.IORING_OP_READ_FIXED:
            buffer[part] = self.stored[: entry.len]
        else:
            self.stored[: entry.len] = buffer[part]
        return int(entry.len)

    def put(self, data: bytes) -> None:
        self.stored[: len(data)] = data

    def get(self, length: int) -> bytes:
        return bytes(self.stored[:length])


class Part(Resource):
    """A ring, a disk or a driver, which hands everything to the fake kernel."""

    fd, block = 7, BLOCK

    def __init__(self, kernel: FakeKernel) -> None:
        super().__init__()
        self._kernel = kernel

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)

    def disk(self) -> str:
        return "/dev/nvme0n1"


class Buffer(DmaBuf):
    """A dma-buf of ``length`` bytes in the fake kernel."""

    def __init__(self, kernel: FakeKernel, fd: int, length: int) -> None:
        Resource.__init__(self)
        self.fd = fd
        kernel.buffers[fd] = bytearray(length)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKernel]:
    """A kernel in which everything works."""
    kernel = FakeKernel()
    monkeypatch.setattr(io_uring, "NvmeDriver", lambda bdf: Part(kernel))
    monkeypatch.setattr(io_uring, "Disk", lambda path: Part(kernel))
    monkeypatch.setattr(io_uring, "Ring", lambda: Part(kernel))
    monkeypatch.setattr(dmabuf, "udmabuf", lambda length: Buffer(kernel, 99, length))
    monkeypatch.setattr(dmabuf, "count", lambda: (0, kernel.attached()))
    monkeypatch.setattr(io_uring, "AGAIN_SECONDS", 0.2)
    yield kernel
    close_all()


@pytest.fixture
def importer(kernel: FakeKernel) -> BlockImporter:
    """An importer after its first transfer."""
    made = BlockImporter("0000:02:00.0")
    assert kernel.slots == {}
    assert kernel.lingering == 0, "what the first transfer held is released"
    kernel.requests.clear()
    return made


def test_bytes_go_through_the_disk_in_pieces(kernel: FakeKernel, importer: BlockImporter) -> None:
    window = importer.attach(Buffer(kernel, 5, 4 * CHUNK), CHUNK, 3 * CHUNK)
    data = bytes(at >> 9 & 0xFF for at in range(CHUNK + 2 * BLOCK))
    window.write(BLOCK, data)
    start = CHUNK + BLOCK
    assert kernel.buffers[5][start : start + len(data)] == data
    assert window.read(BLOCK, len(data)) == data
    reads = [(CHUNK + BLOCK, CHUNK), (2 * CHUNK + BLOCK, 2 * BLOCK)]
    assert kernel.requests == [
        *((uapi.IORING_OP_READ_FIXED, *each) for each in reads),
        *((uapi.IORING_OP_WRITE_FIXED, *each) for each in reads),
    ]


def test_a_request_is_repeated_while_the_kernel_says_again(kernel: FakeKernel, importer: BlockImporter) -> None:
    window = importer.attach(Buffer(kernel, 5, CHUNK), 0, CHUNK)
    kernel.results = [-errno.EAGAIN, -errno.EAGAIN]
    window.fill(0, BLOCK)
    assert len(kernel.requests) == 3
    kernel.results = [-errno.EAGAIN] * 10_000
    with pytest.raises(Refused, match="EAGAIN"):
        window.fill(0, BLOCK)


@pytest.mark.parametrize(
    ("result", "status"), [(-errno.ENODEV, "^ENODEV$"), (-4095, "errno 4095"), (BLOCK, "only 512 of 1024 bytes")]
)
def test_a_refusal_has_the_errno(kernel: FakeKernel, importer: BlockImporter, result: int, status: str) -> None:
    window = importer.attach(Buffer(kernel, 5, CHUNK), 0, CHUNK)
    kernel.results = [result]
    with pytest.raises(Refused, match=status):
        window.drain(0, 2 * BLOCK)


@pytest.mark.parametrize("length", [4, BLOCK + 1, CHUNK + BLOCK])
def test_a_request_has_whole_blocks(kernel: FakeKernel, importer: BlockImporter, length: int) -> None:
    window = importer.attach(Buffer(kernel, 5, 2 * CHUNK), 0, 2 * CHUNK)
    with pytest.raises(ValueError, match="blocks of 512"):
        window.fill(0, length)
    assert not kernel.requests


def test_a_slot_is_used_again_also_after_a_refused_registration(kernel: FakeKernel, importer: BlockImporter) -> None:
    buffer = Buffer(kernel, 5, CHUNK)
    for _ in range(2 * SLOTS):
        importer.attach(buffer, 0, CHUNK).close()
        lost = Buffer(kernel, 6, CHUNK)
        del kernel.buffers[6]
        with pytest.raises(OSError, match="io_uring_register"):
            importer.attach(lost, 0, CHUNK)
    windows = [importer.attach(buffer, 0, CHUNK) for _ in range(SLOTS)]
    assert len(kernel.slots) == SLOTS
    for window in windows:
        window.close()
    assert not kernel.slots


@pytest.mark.parametrize("loaded", [False, True], ids=["absent", "loaded"])
def test_the_driver_gets_one_controller_and_leaves_the_bus_as_it_was(
    monkeypatch: pytest.MonkeyPatch, loaded: bool
) -> None:
    done: list[str] = []
    monkeypatch.setattr(files, "exists", lambda path: loaded)
    monkeypatch.setattr(files, "read_text", lambda path: "1\n")
    monkeypatch.setattr(files, "write", lambda path, text: done.append(f"autoprobe {text.strip()}"))
    monkeypatch.setattr(io_uring, "load_module", lambda name: done.append(f"load {name}"))
    monkeypatch.setattr(io_uring, "remove_module", lambda name: done.append(f"remove {name}"))
    monkeypatch.setattr(pci, "bind", lambda bdf, name: done.append(f"bind {bdf} {name}"))
    monkeypatch.setattr(pci, "unbind", lambda bdf: done.append(f"unbind {bdf}"))
    io_uring.NvmeDriver("0000:02:00.0").close()
    bound = ["bind 0000:02:00.0 nvme", "unbind 0000:02:00.0"]
    around = [["autoprobe 0", "load nvme"], ["remove nvme", "autoprobe 1"]]
    assert done == (bound if loaded else [*around[0], *bound, *around[1]])
