# SPDX-License-Identifier: GPL-2.0-only
"""Makes the calls of a program in the guest, and judges each against the reference model.

The errno, the log of each attachment and the list of dma-bufs must be the model's. Both observers judge each mapping:
a new one must reach the device, and one that a call has revoked must be refused.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import cast

from harness.cases.constants import PCI_D0, UNDER_TEST, PCI_D3hot
from harness.cases.model import CHANGES, CONFIG_WRITES, REVOKING, Expected, Model, Wait
from harness.cases.must import must, must_fail
from harness.cases.probe import ANSWER_S, Ring, must_arrive, must_be_blocked, ring, ring_once
from harness.cases.program import Call
from harness.errors import KernelComplained, KernelErrno
from harness.session import (
    HOLD_MS,
    Attachment,
    Device,
    DmaBuf,
    FenceUsage,
    Nvme,
    Pending,
    QueuedCommand,
    Session,
    Window,
    pci,
)
from harness.session.device import Register
from harness.session.feature_request import (
    LOW_POWER_ENTRY,
    LOW_POWER_ENTRY_WITH_WAKEUP,
    LOW_POWER_EXIT,
    VFIO_DEVICE_FEATURE_PROBE,
    VFIO_DEVICE_FEATURE_SET,
    wakeup,
)
from harness.session.handle import Handle
from harness.witness import Watch

GLANCE_S = 0.02
"""Seconds that the device gets to run a command whose doorbell the host did not see."""
BLOCKED_S = 0.2
"""Seconds for which a call that must wait is observed."""
PERSISTENT_S = 1.5
"""The same, for the first wait of a program: a kernel might give up after a second."""
PROMPT_S = 3.0
"""Time limit in seconds for a call that nothing holds up any more, for a slowdown of 1."""


class Driver:
    """One program on one machine. Each method raises ContractBroken, or the error that ended the machine."""

    def __init__(self, session: Session, watch: Watch, known: frozenset[str]) -> None:
        """Open the device. Nothing else may be open in the session but importers."""
        self.model = Model(known)
        self._session = session
        self._watch = watch
        self._mark = watch.mark()
        self._inodes = {row["ino"] for row in session.bufinfo()}
        self._edu = session.importer("dma-api+edu")
        self._others: dict[str, Handle] = {}
        """Fds of the device, and processes."""
        self._buffers: dict[str, DmaBuf] = {}
        self._attachments: dict[str, Attachment] = {}
        self._buffer_of: dict[str, DmaBuf] = {}
        self._windows: dict[str, Window] = {}
        """Windows, and under an attachment's name that of its mapping."""
        self._patience = PERSISTENT_S
        self._queued: QueuedCommand | None = None
        """A command that waits for its doorbell."""
        self._ready = False
        """Whether the controller runs and the program can reach its registers."""
        self._open(Call("open", (), "device0"))

    def step(self, call: Call) -> None:
        """Make a call and judge it."""
        mapped = {name for name, each in self.model.attachments.items() if each.mapped}
        queued = self._queue() if self.model.waits(call) else None
        expected = self.model.apply(call)
        if expected.errno:
            with must_fail(expected.errno, expected.why):
                self._make(call)
        elif queued:
            self._make_waiting(call, expected, queued)
        else:
            with succeeds(call):
                self._make(call)
        if call.do in DISTURBING:
            self._ready = False
        self._judge(call, expected, mapped)

    def finish(self) -> None:
        """Close everything, and judge that nothing is left."""
        refused = self.abandon()
        must(not refused, "everything that a program opened can be closed", refused)
        must(not (left := self._left()), "no dma-buf outlives its last user", left)
        self._must_be_quiet()

    def abandon(self) -> list[str]:
        """Close everything. Returns the errors."""
        while self._attachments:  # a slow importer or a fence delays the close of the device
            with suppress(KernelErrno):
                self._attachments.popitem()[1].close()
        return self._session.reset()

    # One call

    def _make(self, call: Call) -> None:
        """Make a call that waits for nothing."""
        if call.args and call.do in CONFIG_WRITES:
            register, mask, value = REGISTERS[call.do]
            self._nvme.device.modify_config(register, *SHAPES[register, call.args[0]], clear=mask, value=value)
        elif call.do in DEVICE_CALLS:
            DEVICE_CALLS[call.do](self._nvme.device)
        elif call.do != "ring":  # the judgement rings
            getattr(self, f"_{call.do}")(call)

    def _make_waiting(self, call: Call, expected: Expected, queued: QueuedCommand) -> None:
        """Make a call that must wait, and end what it waits for, one after the other."""
        pending = [self._session.start(self._make, call)]
        try:
            for number, wait in enumerate(expected.waits):
                attachment = self._attachments[wait.attachment]
                notified = attachment.wait_notified(wait.notified)
                must(notified, f"{call} notifies {wait.attachment} before it waits", attachment.events())
                if not number:
                    self._must_be_untouched(call, wait, queued)
                    if call.closing:
                        pending.append(self._session.start(self._buffers[call.closing].close))
                self._must_wait(pending[0], call, wait)
                end_of(wait, attachment)
            for each in pending:
                self._must_end(each, call)
        finally:
            for wait in expected.waits:
                with suppress(KernelErrno):
                    end_of(wait, self._attachments[wait.attachment])
            for each in pending:
                with suppress(KernelErrno):
                    each.result()

    def _must_be_untouched(self, call: Call, wait: Wait, queued: QueuedCommand) -> None:
        """State that a mapping works until its importer has unmapped it. A revoke holds the lock of the registers."""
        window = self._windows.get(wait.attachment)
        if wait.on == "fence" or window is None:
            return
        sentence = f"{call} does not touch the device before {wait.attachment} has unmapped"
        must_arrive(ring_once(queued, window, self._watch), sentence)
        must(not self._ready or self._identified(), sentence, "the device did not run the command")
        self._queued = None

    def _must_wait(self, pending: Pending[None], call: Call, wait: Wait) -> None:
        attachment = self._attachments[wait.attachment]
        seconds, self._patience = self._patience, BLOCKED_S
        attachment.wait_notified(wait.notified + 1, seconds / self._session.machine.slowdown)
        must(not pending.done(), f"{call} waits for the {wait.on} of {wait.attachment}", attachment.events())

    def _must_end(self, pending: Pending[None], call: Call) -> None:
        began = time.monotonic()
        with succeeds(call):
            pending.result()
        took, limit = time.monotonic() - began, min(PROMPT_S * self._session.machine.slowdown, HOLD_MS / 2000)
        must(took < limit, f"{call} goes on as soon as nothing holds it up", f"{took:.1f} s")

    def _identified(self) -> bool:
        """Return whether the queued Identify runs, as its data shows."""
        deadline = time.monotonic() + ANSWER_S * self._session.machine.slowdown
        while not any(self._nvme.data(4)):
            if time.monotonic() > deadline:
                return False
        return True

    # What must hold after a call

    def _judge(self, call: Call, expected: Expected, mapped: set[str]) -> None:
        """Compare with the model. ``mapped``: the attachments that were mapped before the call."""
        for name, attachment in self._attachments.items():
            self._must_match(call, name, attachment)
            if self.model.attachments[name].mapped and (name not in mapped or call.do in REVOKING):
                self._forget_window(name)
                self._windows[name] = self._edu.window(self._buffer_of[name], attachment)
        for name in expected.ended:
            must_be_blocked(self._ring(self._windows[name]), f"{call} ends the mapping of {name} for good")
        for name in filter(None, (call.result, *call.args)):
            if name in self._windows and call.do in REACHING:
                self._must_reach(name)
        for name in expected.ended:
            if name in self._attachments:
                self._forget_window(name)
        if call.do in CLOSING or call.closing:
            left, wanted = self._left(), len(self.model.held())
            must(len(left) == wanted, f"a dma-buf lives as long as its users: {wanted} after {call}", left)
        self._must_be_quiet()

    def _must_match(self, call: Call, name: str, attachment: Attachment) -> None:
        wanted = self.model.attachments[name]
        events = attachment.events()
        notified = sum(event.kind == "notified" for event in events)
        must(notified == wanted.notified, f"after {call} {name} was notified {wanted.notified} times in all", events)
        is_mapped = f"after {call} {name} is {'' if wanted.mapped else 'not '}mapped"
        must(attachment.mapped() == wanted.mapped, is_mapped, events)

    def _must_reach(self, name: str) -> None:
        """State that a mapping reaches the device if the model says so."""
        window = self.model.windows.get(name)
        if window is None or window.live:
            must_arrive(self._ring(self._windows[name]), f"the mapping of {name} reaches the device")
        else:
            must_be_blocked(self._ring(self._windows[name]), f"the mapping of {name} stays dead after its revoke")

    def _must_be_quiet(self) -> None:
        """Raise KernelComplained if the console shows a splat."""
        if splats := self._watch.splats(self._mark):
            error = KernelComplained(splats[0].title)
            error.add_note("console:\n" + "\n".join(splat.text for splat in splats))
            raise error

    def _left(self) -> list[dict[str, str]]:
        """List the dma-bufs that the program has made."""
        return [row for row in self._session.bufinfo() if row["ino"] not in self._inodes]

    def _ring(self, window: Window) -> Ring:
        """Ring the device's doorbell through a window; ask the device whether it ran the command, if it can answer."""
        queued = self._queue()
        if self._ready:
            result = ring(self._nvme, window, self._watch, queued=queued, silence=GLANCE_S)
        else:
            result = ring_once(queued, window, self._watch)
        if result.doorbells:
            self._queued = None
        return result

    def _queue(self) -> QueuedCommand:
        """Return a command that waits for its doorbell. Starts the controller if the program can reach it."""
        reachable = self.model.enabled and self.model.driver is not None
        if reachable and not self._ready:
            self._nvme.start()
            self._queued = None
        self._ready = reachable
        if self._queued is None:
            self._queued = self._nvme.queue_identify()
        return self._queued

    def _forget_window(self, name: str) -> None:
        if window := self._windows.pop(name, None):
            window.close()

    # The calls

    def _open(self, call: Call) -> None:
        self._nvme: Nvme = self._session.open_nvme(UNDER_TEST)
        self._others[call.result or ""] = self._nvme.device
        self._ready, self._queued = True, None

    def _export(self, call: Call) -> None:
        self._buffers[call.result or ""] = self._nvme.export_doorbells()

    def _dup(self, call: Call) -> None:
        (name,) = call.args
        if name in self._buffers:
            self._buffers[call.result or ""] = self._buffers[name].dup()
        else:
            self._others[call.result or ""] = self._nvme.device.dup()

    def _fork(self, call: Call) -> None:
        self._others[call.result or ""] = self._session.hold(self._buffers.get(call.args[0], self._nvme.device))

    def _close(self, call: Call) -> None:
        (name,) = call.args
        (self._buffers if name in self._buffers else self._others).pop(name).close()

    _kill = _close

    def _attach(self, call: Call) -> None:
        name, importer = call.args
        window = self._session.importer(importer).attach(self._buffers[name])
        self._windows[call.result or ""] = window

    def _attach_driver(self, call: Call) -> None:
        name, driver = call.args
        buffer, result = self._buffers[name], call.result or ""
        delay_ms = HOLD_MS if driver == "slow" else 0
        self._attachments[result] = self._session.attach(
            buffer, device_id=self._edu.device_id, delay_ms=delay_ms, remap=driver == "remap"
        )
        self._buffer_of[result] = buffer

    def _detach(self, call: Call) -> None:
        (name,) = call.args
        if name in self._attachments:
            self._forget_window(name)
            self._attachments.pop(name).detach()
            return
        window = self._windows.pop(name)
        unmapped = window.detach()
        must(unmapped in (None, window.length), "an unmap returns its whole length", unmapped)

    def _map(self, call: Call) -> None:
        self._attachments[call.args[0]].map()

    def _unmap(self, call: Call) -> None:
        self._forget_window(call.args[0])
        self._attachments[call.args[0]].unmap()

    def _fence(self, call: Call) -> None:
        name, usage = call.args
        self._attachments[name].fence(cast(FenceUsage, usage))

    def _wake(self, call: Call) -> None:
        if not pci.suspended(self._session, UNDER_TEST):
            self._nvme.device.low_power_exit()
            return
        self._nvme.device.command()
        must(self._nvme.device.woken(), "an access of a suspended device signals its wake-up")


@contextmanager
def succeeds(call: Call) -> Iterator[None]:
    """State that the kernel accepts the call in the block."""
    try:
        yield
    except KernelErrno as refusal:
        must(False, f"{call} succeeds", refusal)


def end_of(wait: Wait, attachment: Attachment) -> None:
    """End what a call waits for."""
    if wait.on == "fence":
        attachment.signal()
    else:
        attachment.release()


def bad_entry(device: Device) -> None:
    """Enter low power with a bad eventfd."""
    device.feature(LOW_POWER_ENTRY_WITH_WAKEUP | VFIO_DEVICE_FEATURE_SET, wakeup(-1))


def probe_low_power(device: Device) -> None:
    """Probe each low-power feature, which must change nothing."""
    for feature in (LOW_POWER_ENTRY, LOW_POWER_ENTRY_WITH_WAKEUP, LOW_POWER_EXIT):
        device.feature(feature | VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_SET)


DEVICE_CALLS: Mapping[str, Callable[[Device], None]] = {
    "memory_off": lambda device: device.set_memory(False),
    "memory_on": lambda device: device.set_memory(True),
    "d3hot": lambda device: device.set_power_state(PCI_D3hot),
    "d0": lambda device: device.set_power_state(PCI_D0),
    "reset": lambda device: device.reset(),
    "flr": lambda device: device.flr(),
    "hot_reset": lambda device: device.hot_reset(),
    "low_power_entry": lambda device: device.low_power_entry(),
    "low_power_entry_with_wakeup": lambda device: device.low_power_entry_with_wakeup(),
    "low_power_exit": lambda device: device.low_power_exit(),
    "bad_entry": bad_entry,
    "probe_low_power": probe_low_power,
}
REGISTERS: Mapping[str, tuple[Register, int, int]] = {
    "memory_off": ("COMMAND", 2, 0),
    "memory_on": ("COMMAND", 2, 2),
    "d3hot": ("PMCSR", 3, 3),
    "d0": ("PMCSR", 3, 0),
    "flr": ("DEVCTL", 0x8000, 0x8000),
}
"""The register that a config write changes, the bits that decide, and their value."""
SHAPES: Mapping[tuple[str, str], tuple[int, int]] = {
    ("COMMAND", "byte"): (0, 1),
    ("COMMAND", "dword"): (0, 4),
    ("PMCSR", "byte"): (0, 1),
    ("PMCSR", "dword"): (0, 4),
    ("DEVCTL", "byte"): (-1, 1),  # the bit of the reset is in the second byte
    ("DEVCTL", "dword"): (0, 4),
}
"""By register and width: how many bytes before the register the write begins, and its length."""
DISTURBING = CHANGES.keys() - {"memory_off", "memory_on"}
"""Calls after which the controller has to be started again."""
REACHING = frozenset(("attach", "map", "ring"))
"""Calls after which a mapping is judged by DMA."""
CLOSING = frozenset(("close", "kill", "detach"))
"""Calls that may end a dma-buf."""
