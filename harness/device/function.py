# SPDX-License-Identifier: GPL-2.0-only
"""One PCI function behind one connection: answers QEMU's commands, and does the model's DMA.

An access is answered in the order in which it came. Only the access that resets can be held, if a case asks for that.
"""

import asyncio
import errno
import os
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from harness.device import protocol
from harness.device.behaviour import Behaviour
from harness.device.config_space import ConfigSpace
from harness.device.link import Link
from harness.device.log import Log
from harness.device.model import DmaRefused, Model
from harness.device.protocol import Command, Message

LATE_S = 5.0
"""An answer that takes so long is logged. A busy host delays a process less; a deadline of the guest may pass."""
MOST_VECTORS = 2048
"""Of an MSI-X table (PCI Local Bus Specification 3.0, 6.8.2)."""


class Function:
    """A function. ``make`` is called with it, as the model's port."""

    def __init__(self, config: ConfigSpace, log: Log, make: Callable[["Function"], Model]) -> None:
        self.config = config
        self.behaviour = Behaviour()
        self._log = log
        self._link: Link | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._vectors: dict[int, int] = {}
        self._unready_until = 0.0
        self.model = make(self)

    # Its connection

    def connect(self, link: Link) -> None:
        """Serve a connection; the last one ends."""
        self._link = link
        self.log("connected")

    def disconnect(self) -> None:
        """End the connection, as if this device's process had ended. QEMU may connect again."""
        if self._link:
            self._link.close("a case has ended the connection")

    def disconnected(self, why: str) -> None:
        """Forget what belonged to the connection."""
        self._link = None
        self._cancel()
        self._release_vectors(0, MOST_VECTORS)
        self.log("disconnected", why=why)

    def on_command(self, link: Link, message: Message) -> None:
        """Answer one command of QEMU."""
        began = time.monotonic()
        try:
            reply = self._answer(link, message)
        except protocol.ProtocolError as error:
            self.log("malformed", command=message.command, why=str(error))
            reply = message.failure(errno.EINVAL)
        except Exception as error:  # of the model: without an answer QEMU would wait
            self.log("defect", why=repr(error))
            reply = message.failure(errno.EIO)
        if (took := time.monotonic() - began) > LATE_S:
            self.log("late", command=message.command, took=round(took, 1))
        if reply is not None and message.wants_reply:
            link.send(reply)

    def _answer(self, link: Link, message: Message) -> Message | None:
        """Return the reply; None if it comes later or never."""
        match message.command:
            case Command.REGION_READ:
                return self._read(message)
            case Command.REGION_WRITE:
                return self._write(link, message)
            case Command.DEVICE_RESET:
                return self._reset("bus", link, message, message.reply())
            case Command.DEVICE_SET_IRQS:
                return self._set_irqs(link, message)
        body = self._describe(message)
        return message.failure(errno.EOPNOTSUPP) if body is None else message.reply(body)

    def _describe(self, message: Message) -> bytes | None:
        """Return the body of the reply to a command that changes nothing here; None for an unknown command."""
        body: bytes | None = None
        match message.command:
            case Command.VERSION:
                body = protocol.VERSION.pack(0, 0) + b'{"capabilities":{}}\0'
            case Command.DMA_MAP:
                _, _, _, address, size = message.unpack(protocol.DMA_MAP)
                self.log("map", address=address, size=size)
                body = b""
            case Command.DMA_UNMAP:
                _, _, address, size = message.unpack(protocol.DMA_UNMAP)
                self.log("unmap", address=address, size=size)
                body = message.body[: protocol.DMA_UNMAP.size]
            case Command.DEVICE_GET_INFO:
                flags = protocol.DEVICE_FLAGS_RESET | protocol.DEVICE_FLAGS_PCI
                body = protocol.DEVICE_INFO.pack(protocol.DEVICE_INFO.size, flags, protocol.REGIONS, protocol.IRQS)
            case Command.DEVICE_GET_REGION_INFO:
                body = self._region_info(message)
            case Command.DEVICE_GET_IRQ_INFO:
                body = self._irq_info(message)
        return body

    # Regions

    def _size_of(self, region: int) -> int:
        return self.config.size if region == protocol.CONFIG_REGION else self.model.BARS.get(region, 0)

    def _region_info(self, message: Message) -> bytes:
        _, _, index, *_ = message.unpack(protocol.REGION_INFO)
        size = self._size_of(index)
        flags = protocol.REGION_READ_WRITE if size else 0
        return protocol.REGION_INFO.pack(protocol.REGION_INFO.size, flags, index, 0, size, 0)

    def _access(self, message: Message) -> tuple[int, int, int]:
        """Return region, offset and length. Raises ProtocolError for an access outside the region."""
        offset, region, count = message.unpack(protocol.REGION_ACCESS)
        if offset + count > self._size_of(region):
            raise protocol.ProtocolError(f"{count} bytes at {offset:#x} are outside region {region}")
        return region, offset, count

    def _silent(self, region: int) -> bool:
        """Return whether the region reads as ones."""
        now = asyncio.get_running_loop().time()
        behaviour = self.behaviour
        return behaviour.gone or region in behaviour.silent_bars or now < self._unready_until

    def _read(self, message: Message) -> Message:
        region, offset, count = self._access(message)
        data = self.read(region, offset, count)
        self.log("read", region=region, offset=offset, data=data.hex())
        return message.reply(protocol.REGION_ACCESS.pack(offset, region, count) + data)

    def read(self, region: int, offset: int, count: int) -> bytes:
        """Return what a read of a region answers."""
        if self._silent(region):
            return b"\xff" * count
        if region == protocol.CONFIG_REGION:
            return self.model.config(offset, self.config.read(offset, count))
        return self.model.read(region, offset, count)

    def _write(self, link: Link, message: Message) -> Message | None:
        region, offset, count = self._access(message)
        data = message.body[protocol.REGION_ACCESS.size :][:count]
        self.log("write", region=region, offset=offset, data=data.hex())
        reply = message.reply(protocol.REGION_ACCESS.pack(offset, region, count))
        if self._silent(region):
            return reply
        if region != protocol.CONFIG_REGION:
            self.model.write(region, offset, data)
            return reply
        asked = self.config.write(offset, data)
        return self._reset(asked, link, message, reply) if asked else reply

    # Reset

    def _reset(self, how: str, link: Link, message: Message, reply: Message) -> Message | None:
        """Reset, and return the reply to the access that asked for it; None if it comes later or never."""
        behaviour = self.behaviour
        self.log("reset", how=how)
        if not behaviour.reset_ignored:
            self._cancel()
            self.config.reset()
            self.model.reset()
        if behaviour.unready_s:
            self._unready_until = asyncio.get_running_loop().time() + behaviour.unready_s
        for late in behaviour.reset_dma:
            delay = behaviour.reset_hold_s + late.after_s
            self.spawn(self._late_dma(delay, late.address, late.data))
        if behaviour.reset_unanswered:
            self.log("unanswered", how=how)
            return None
        if behaviour.reset_hold_s and message.wants_reply:
            asyncio.get_running_loop().call_later(behaviour.reset_hold_s, self._answer_late, link, reply)
            return None
        return reply

    def _answer_late(self, link: Link, reply: Message) -> None:
        self.log("answered")
        link.send(reply)

    async def _late_dma(self, after_s: float, address: int, data: bytes) -> None:
        await asyncio.sleep(after_s)
        await self.dma_write(address, data)

    def behave(self, behaviour: Behaviour) -> None:
        """Behave otherwise from now on."""
        self.behaviour = behaviour
        self._unready_until = 0.0
        self.log("behave", how=repr(behaviour))

    # Interrupts

    def _irq_info(self, message: Message) -> bytes:
        _, _, index, _ = message.unpack(protocol.IRQ_INFO)
        msix = self.config.msix
        count = msix.vectors if msix and index == protocol.MSIX_IRQ else 0
        flags = protocol.IRQ_INFO_EVENTFD | protocol.IRQ_INFO_NORESIZE if count else 0
        return protocol.IRQ_INFO.pack(protocol.IRQ_INFO.size, flags, index, count)

    def _set_irqs(self, link: Link, message: Message) -> Message:
        _, flags, index, start, count = message.unpack(protocol.IRQ_SET)
        if index != protocol.MSIX_IRQ:
            return message.reply()
        if flags & protocol.IRQ_SET_DATA_NONE and not count:
            self._release_vectors(0, MOST_VECTORS)
        elif flags & protocol.IRQ_SET_DATA_EVENTFD and flags & protocol.IRQ_SET_ACTION_TRIGGER:
            self._release_vectors(start, count)
            for vector in range(start, start + count):
                if link.fds:
                    self._vectors[vector] = link.fds.pop(0)
        return message.reply()

    def _release_vectors(self, start: int, count: int) -> None:
        for vector in [each for each in self._vectors if start <= each < start + count]:
            os.close(self._vectors.pop(vector))

    def interrupt(self, vector: int) -> None:
        """Signal an MSI-X vector, if the guest has enabled it."""
        if vector in self._vectors and not self.behaviour.gone:
            self.log("interrupt", vector=vector)
            os.eventfd_write(self._vectors[vector], 1)

    # DMA

    async def dma_read(self, address: int, length: int) -> bytes:
        """Read memory or a peer's BAR. Raises DmaRefused."""
        body = await self._dma("read", Command.DMA_READ, address, length, b"")
        return body[protocol.DMA_ACCESS.size :]

    async def dma_write(self, address: int, data: bytes) -> None:
        """Write memory or a peer's BAR. Raises DmaRefused."""
        await self._dma("write", Command.DMA_WRITE, address, len(data), data)

    async def _dma(self, what: str, command: Command, address: int, length: int, data: bytes) -> bytes:
        link = self._link
        began = asyncio.get_running_loop().time()
        number = errno.ENODEV
        reply = None
        if link is not None and not self.behaviour.gone:
            try:
                reply = await link.request(command, protocol.DMA_ACCESS.pack(address, length) + data)
                number = reply.error if reply.flags & protocol.ERROR else 0
            except ConnectionError:
                reply = None
        fields: dict[str, Any] = {"address": address, "length": length, "began": round(began, 6)}
        if length <= 8 and data:
            fields["data"] = data.hex()
        self.log(f"dma-{what}", **fields, errno=number)
        if number or reply is None:
            raise DmaRefused(number)
        return reply.body

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` beside the accesses. A reset cancels it; a DmaRefused ends it."""

        async def run() -> None:
            with suppress(DmaRefused):
                await work

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.log("defect", why=repr(error))

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def log(self, event: str, **fields: Any) -> None:
        """Append an event to the device's log."""
        self._log.write(event, **fields)
