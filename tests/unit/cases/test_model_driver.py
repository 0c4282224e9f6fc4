# SPDX-License-Identifier: GPL-2.0-only
"""The driver judges each call: a kernel that keeps the contract passes, and each kind of fault is noticed."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.cases.model import Model
from harness.cases.model_driver import Driver
from harness.cases.model_search import actions
from harness.cases.must import ContractBroken
from harness.cases.program import parse
from harness.errors import KernelComplained, KernelErrno
from harness.session import QueuedCommand, Session
from harness.witness import DmaFault, Doorbell, Watch

ENODEV, EINVAL, EBADFD = 19, 22, 77


class Splats:
    """Witnesses of a kernel that runs in this process."""

    def __init__(self) -> None:
        self.bells: list[Doorbell] = []
        self.refused: list[DmaFault] = []
        self.complaints: list[Any] = []

    def mark(self) -> tuple[int, int]:
        return len(self.bells), len(self.refused)

    def doorbells(self, mark: tuple[int, int]) -> list[Doorbell]:
        return self.bells[mark[0] :]

    def faults(self, mark: tuple[int, int]) -> list[DmaFault]:
        return self.refused[mark[1] :]

    def splats(self, mark: object = None) -> list[Any]:
        return self.complaints


@dataclass(eq=False)
class Buffer:
    """A dma-buf of the kernel."""

    revoked: bool
    inode: str
    uses: int = 0
    attachments: list[Any] = field(default_factory=list)
    windows: list[Any] = field(default_factory=list)


class Kernel:
    """A kernel that keeps the contract, but for its faults: ``Kernel("no-notify")``."""

    def __init__(self, *faults: str) -> None:
        self.faults = faults
        self.watch = Splats()
        self.buffers: list[Buffer] = []
        self.exported: list[Buffer] = []
        self.memory, self.d3hot, self.low_power = True, False, False
        self.opens = self.made = 0

    def has(self, fault: str) -> bool:
        return fault in self.faults

    @property
    def enabled(self) -> bool:
        return self.memory and not self.d3hot and not self.low_power

    def settle(self, resets: bool = False) -> None:
        if resets or not self.enabled:
            self.revoke()
        if self.enabled:
            self.unrevoke()

    def revoke(self) -> None:
        for buffer in [each for each in self.exported if not each.revoked]:
            buffer.revoked = True
            for each in list(buffer.attachments):
                each.notify()
            for each in list(buffer.attachments):
                if not self.has("no-wait"):
                    each.signalled.wait(5)
                    each.unmapped.wait(5)
                each.is_mapped = False
            for window in buffer.windows:
                window.live = window.live and self.has("no-revoke")

    def unrevoke(self) -> None:
        for buffer in self.exported:
            if buffer.revoked and not self.has("stays-revoked"):
                buffer.revoked = False
                for each in buffer.attachments:
                    if not self.has("no-notify"):
                        each.notify()
                    each.is_mapped = each.is_mapped or each.remap

    def get(self, buffer: Buffer) -> None:
        buffer.uses += 1

    def put(self, buffer: Buffer) -> None:
        buffer.uses -= 1
        if not buffer.uses and not self.has("leak"):
            self.buffers.remove(buffer)
            self.exported = [each for each in self.exported if each is not buffer]

    def last_close(self) -> None:
        self.opens -= 1
        if not self.opens:
            self.revoke()
            self.exported = []
            self.memory, self.d3hot, self.low_power = True, False, False

    def refuse(self, wrong: bool, number: int = ENODEV) -> None:
        if wrong:
            raise KernelErrno("call", number)


class Fd:
    """An open file."""

    def __init__(self, kernel: Kernel, closes: Callable[[], None]) -> None:
        self.kernel = kernel
        self._closes: Callable[[], None] | None = closes

    def close(self) -> None:
        closes, self._closes = self._closes, None
        if closes:
            closes()


class FakeDmaBuf(Fd):
    ranges = ((0, 4096),)

    def __init__(self, kernel: Kernel, buffer: Buffer) -> None:
        super().__init__(kernel, lambda: kernel.put(buffer))
        self.buffer = buffer
        kernel.get(buffer)

    def dup(self) -> "FakeDmaBuf":
        return FakeDmaBuf(self.kernel, self.buffer)


class FakeDevice(Fd):
    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel, kernel.last_close)
        kernel.opens += 1

    def dup(self) -> Fd:
        self.kernel.opens += 1
        return Fd(self.kernel, self.kernel.last_close)

    def set_memory(self, on: bool) -> None:
        self.kernel.memory = on
        self.kernel.settle()

    def set_power_state(self, state: int) -> None:
        self.kernel.d3hot = bool(state)
        self.kernel.settle()

    def reset(self) -> None:
        self.kernel.d3hot = False
        self.kernel.settle(resets=True)

    flr = hot_reset = reset

    def modify_config(self, register: str, before: int, length: int, *, clear: int, value: int) -> None:
        if length == 1 and self.kernel.has("word-only"):
            return
        if register == "DEVCTL":
            self.flr()
        elif register == "COMMAND":
            self.set_memory(bool(value))
        else:
            self.set_power_state(value)

    def feature(self, flags: int, payload: bytes = b"") -> None:
        if self.kernel.has("probe-acts"):
            self.low_power_exit()
        self.kernel.refuse(bool(payload), EINVAL)

    def low_power_entry(self) -> None:
        self.kernel.refuse(self.kernel.low_power, EINVAL)
        self.kernel.low_power = True
        self.kernel.settle()

    low_power_entry_with_wakeup = low_power_entry

    def low_power_exit(self) -> None:
        self.kernel.low_power = False
        self.kernel.settle()

    def command(self) -> None:
        self.low_power_exit()

    def woken(self) -> bool:
        return True


class FakeNvme:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel, self.device = kernel, FakeDevice(kernel)

    def start(self) -> None:
        self.kernel.refuse(not self.kernel.enabled)

    def export_doorbells(self) -> FakeDmaBuf:
        kernel = self.kernel
        buffer = Buffer(not kernel.enabled, str(kernel.made))
        kernel.made += 1
        kernel.buffers.append(buffer)
        kernel.exported.append(buffer)
        return FakeDmaBuf(kernel, buffer)

    def queue_identify(self) -> QueuedCommand:
        return QueuedCommand(0, 1, b"", 0, 0x1000, 1)

    def completed(self, queued: QueuedCommand, timeout: float) -> object:
        return object() if timeout > 1 else None

    def data(self, length: int) -> bytes:
        return b"\1" * length


class FakeWindow(Fd):
    length = 4096

    def __init__(self, kernel: Kernel, buffer: Buffer, mapped: Callable[[], bool] | None = None) -> None:
        super().__init__(kernel, lambda: kernel.put(buffer))
        kernel.get(buffer)
        self.live = True
        self.mapped = mapped or (lambda: self.live)
        buffer.windows.append(self)

    def ring(self, queued: QueuedCommand) -> None:
        if self.mapped():
            self.kernel.watch.bells.append(Doorbell("sq", 0, queued.tail))
        else:
            self.kernel.watch.refused.append(DmaFault(None, 0, True, None, "qemu"))

    def detach(self) -> int:
        self.close()
        return self.length - self.kernel.has("short-unmap")


class FakeAttachment(Fd):
    def __init__(self, kernel: Kernel, buffer: Buffer, delay_ms: int, remap: bool) -> None:
        kernel.refuse(buffer.revoked)
        super().__init__(kernel, self._leave)
        kernel.get(buffer)
        self.buffer, self.slow, self.remap = buffer, bool(delay_ms), remap
        self.is_mapped = False
        self.count = 0
        self.unmapped, self.signalled = threading.Event(), threading.Event()
        self.unmapped.set()
        self.signalled.set()
        buffer.attachments.append(self)

    def _leave(self) -> None:
        self.signal()
        self.release()
        self.buffer.attachments.remove(self)
        self.kernel.put(self.buffer)

    def notify(self) -> None:
        if self.is_mapped and self.slow:
            self.unmapped.clear()
        self.count += 1

    def map(self) -> None:
        self.kernel.refuse(self.buffer.revoked)
        self.is_mapped = True

    def unmap(self) -> None:
        self.is_mapped = False

    def release(self) -> None:
        self.unmapped.set()

    def fence(self, usage: str) -> None:
        if not self.kernel.has("no-fence"):
            self.signalled.clear()

    def signal(self) -> None:
        self.signalled.set()

    def detach(self) -> None:
        self.close()

    def mapped(self) -> bool:
        return self.is_mapped

    def events(self) -> list[Any]:
        return [SimpleNamespace(kind="notified")] * self.count

    def wait_notified(self, count: int = 1, timeout: float = 5.0) -> bool:
        waited = threading.Event()
        for _ in range(int(timeout * 200) + 1):
            if self.count >= count:
                return True
            waited.wait(0.005)
        return False


class FakeImporter:
    device_id = "edu0"

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def attach(self, dmabuf: FakeDmaBuf) -> FakeWindow:
        self.kernel.refuse(dmabuf.buffer.revoked and not self.kernel.has("attach-revoked"))
        return FakeWindow(self.kernel, dmabuf.buffer)

    def window(self, dmabuf: FakeDmaBuf, attachment: FakeAttachment) -> FakeWindow:
        window = FakeWindow(self.kernel, dmabuf.buffer, attachment.mapped)
        self.kernel.put(dmabuf.buffer)
        window._closes = lambda: None
        return window


class Pending:
    def __init__(self, function: Callable[..., None], *args: object) -> None:
        self._thread = threading.Thread(target=function, args=args, daemon=True)
        self._thread.start()

    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> None:
        self._thread.join(5)


class FakeSession:
    machine = SimpleNamespace(slowdown=1.0)
    agent = SimpleNamespace(call=lambda service, function, **args: True)
    """Answers pci.suspended, which is asked by no handle."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.opened: list[Fd] = []

    def importer(self, name: str) -> FakeImporter:
        return FakeImporter(self.kernel)

    def open_nvme(self, device_id: str) -> FakeNvme:
        self.kernel.refuse(self.kernel.opens > 0)
        return FakeNvme(self.kernel)

    def attach(self, buffer: FakeDmaBuf, *, device_id: str, delay_ms: int, remap: bool) -> FakeAttachment:
        return FakeAttachment(self.kernel, buffer.buffer, delay_ms, remap)

    def hold(self, of: FakeDmaBuf | FakeDevice) -> Fd:
        return of.dup()

    def start(self, function: Callable[..., None], *args: object) -> Pending:
        return Pending(function, *args)

    def bdf(self, device_id: str) -> str:
        return "0000:01:00.0"

    def bufinfo(self) -> list[dict[str, str]]:
        return [{"ino": buffer.inode} for buffer in self.kernel.buffers]

    def reset(self) -> list[str]:
        if not self.kernel.has("leak"):
            self.kernel.buffers.clear()
        self.kernel.exported, self.kernel.opens = [], 0
        return ["Device: EIO"] if self.kernel.has("cannot-close") else []


def driver_of(kernel: Kernel) -> Driver:
    return Driver(cast(Session, FakeSession(kernel)), cast(Watch, kernel.watch), frozenset())


def run(kernel: Kernel, text: str) -> None:
    driver = driver_of(kernel)
    for call in parse(text, "x"):
        driver.step(call)
    driver.finish()


EVERYTHING = """\
buffer0 = export()
window0 = attach(buffer0, "rxe")
attachment0 = attach_driver(buffer0, "slow")
map(attachment0)
ring(attachment0)
fence(attachment0, "read")
buffer1 = export()
reset(closing=buffer1)
attachment1 = attach_driver(buffer0, "remap")
ring(window0)
memory_off()
attach(buffer0, "rxe")
map(attachment0)
memory_on()
ring(attachment1)
detach(window0)
low_power_entry_with_wakeup()
wake()
unmap(attachment1)
process0 = fork(device0)
device1 = dup(device0)
close(device0)
close(device1)
kill(process0)
device2 = open()
attach(buffer0, "rxe")
detach(attachment0)
detach(attachment1)
close(buffer0)
"""


def test_a_kernel_that_keeps_the_contract_passes() -> None:
    run(Kernel(), EVERYTHING)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_every_program_passes_on_such_a_kernel(data: st.DataObject) -> None:
    model, driver = Model(), driver_of(Kernel())
    driver._patience = 0.0
    for _ in range(15):
        do = data.draw(st.sampled_from(actions(model)))
        call = data.draw(st.sampled_from(model.choices(do)))
        model.apply(call)
        driver.step(call)
    driver.finish()


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("no-revoke", r"reset\(closing=buffer1\) ends the mapping of window0 for good"),
        ("stays-revoked", "has been notified|was notified"),
        ("no-notify", r"after reset\(closing=buffer1\) attachment0 was notified 2 times in all"),
        ("no-wait", r"reset\(closing=buffer1\) waits for the fence of attachment0"),
        ("leak", "a dma-buf lives as long as its users|no dma-buf outlives"),
        ("attach-revoked", "a revoked buffer cannot be attached to"),
        ("short-unmap", "an unmap returns its whole length"),
        ("cannot-close", "everything that a program opened can be closed"),
    ],
)
def test_each_fault_is_noticed(fault: str, sentence: str) -> None:
    with pytest.raises(ContractBroken, match=sentence):
        run(Kernel(fault), EVERYTHING)


def test_a_revoke_that_does_not_wait_for_a_fence_is_noticed() -> None:
    text = """\
buffer0 = export()
attachment0 = attach_driver(buffer0, "prompt")
fence(attachment0, "read")
memory_off()
"""
    run(Kernel(), text)
    with pytest.raises(ContractBroken, match=r"memory_off\(\) waits for the fence of attachment0"):
        run(Kernel("no-fence"), text)


@pytest.mark.parametrize(
    ("fault", "text", "sentence"),
    [
        ("word-only", 'flr("byte")', r'after flr\("byte"\) attachment0 was notified 2 times'),
        ("word-only", 'memory_off("byte")', r'after memory_off\("byte"\) attachment0 was notified 1 times'),
        ("probe-acts", "low_power_entry()\nprobe_low_power()", r"probe_low_power\(\) attachment0 was notified 1 times"),
        ("probe-acts", "low_power_entry()\nbad_entry()", r"bad_entry\(\) attachment0 was notified 1 times"),
    ],
)
def test_other_widths_and_refused_entries_are_judged(fault: str, text: str, sentence: str) -> None:
    program = f'buffer0 = export()\nattachment0 = attach_driver(buffer0, "prompt")\n{text}'
    run(Kernel(), program)
    with pytest.raises(ContractBroken, match=sentence):
        run(Kernel(fault), program)


def test_a_splat_ends_the_program() -> None:
    kernel = Kernel()
    driver = driver_of(kernel)
    kernel.watch.complaints.append(SimpleNamespace(title="WARNING in f", text="the report"))
    with pytest.raises(KernelComplained, match="WARNING in f") as raised:
        driver.step(parse("buffer0 = export()", "x")[0])
    assert raised.value.__notes__ == ["console:\nthe report"]
