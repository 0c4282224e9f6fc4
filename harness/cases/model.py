# SPDX-License-Identifier: GPL-2.0-only
"""Section 2 of the contract as a reference model: the state of a device, its buffers and their mappings.

A buffer is OK, revoked or dead; a mapping is live until a revoke ends it for good. ``Model.choices`` lists the calls
that a program may make next, and ``Model.apply`` returns what each must do. The model is pure: no machine is needed.

The model avoids states in which a known issue of the kernel under test decides the outcome; ``AVOIDS`` lists them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from harness.cases.program import Call, Program
from harness.errors import UsageError

AVOIDS: Mapping[str, str] = {
    "live-in-low-power": "calls that resume a device in low power: export, COMMAND writes, resets, second entries",
    "revoked-after-wakeup": "wake(), an access that wakes a device from low power",
    "unrevoke-notified-too-early": "attachments that map in their callback",
}
"""What the model avoids for each known issue that the kernel under test has. ``--fixed`` removes the issues."""

IMPORTERS = ("iommufd+nvme", "rxe", "dma-api+edu")
"""Importers that make windows."""
DRIVERS = ("prompt", "slow", "remap")
"""How a kernel driver answers a notification: it unmaps at once, it unmaps when ``release`` says so, or it unmaps and
maps again if it can."""
USAGES = ("bookkeep", "read", "write", "kernel")
"""Usages of a fence."""

RESETS = ("reset", "flr", "hot_reset")
CHANGES: Mapping[str, Mapping[str, object]] = {
    "memory_off": {"memory": False},
    "memory_on": {"memory": True},
    "d3hot": {"d3hot": True},
    "d0": {"d3hot": False},
    **{do: {"d3hot": False} for do in RESETS},  # each reset leaves the device in D0
    "low_power_entry": {"low_power": "plain"},
    "low_power_entry_with_wakeup": {"low_power": "wakeup"},
    "low_power_exit": {"low_power": None},
    "wake": {"low_power": None},
}
"""The calls that change the state of the device, and the fields of ``Model`` that they set."""
CONFIG_WRITES = ("memory_off", "memory_on", "d3hot", "d0", "flr")
"""Changes by a write of config space. Without a width they write two bytes."""
WIDTHS = ("byte", "dword")
ENTRIES = ("low_power_entry", "low_power_entry_with_wakeup")
REVOKING = (*RESETS, "memory_off", "d3hot", "low_power_entry", "low_power_entry_with_wakeup")
"""Calls that revoke. So do the ``close`` and the ``kill`` that end the last use of the device."""

MOST = {"buffer": 3, "window": 4, "attachment": 3, "device": 2, "process": 2}
"""Objects of each kind that a program has open at the same time. More cost time and show little."""


PLACES = {kind: f"{kind}s" for kind in MOST} | {"process": "processes"}
"""The fields of ``Model`` that hold them."""


class State(Enum):
    """The state of a buffer."""

    OK = "live"
    REVOKED = "revoked"
    DEAD = "dead"
    """The device's last close has revoked it for ever."""


@dataclass(eq=False)
class Buffer:
    """A dma-buf."""

    state: State


@dataclass(eq=False)
class Window:
    """A mapping by an importer that user space drives or, for ``dma-api+edu``, made in one step."""

    buffer: Buffer
    live: bool = True


@dataclass(eq=False)
class Attachment:
    """A kernel driver attached to a buffer."""

    buffer: Buffer
    driver: str
    mapped: bool = False
    notified: int = 0
    fenced: bool = False
    """Whether it has an unsignalled fence on the buffer."""
    usage: str = ""
    """The usage of its last fence."""


@dataclass(frozen=True)
class Wait:
    """Something that a revoke must wait for."""

    attachment: str
    on: Literal["fence", "importer"]
    notified: int
    """How often the attachment has been notified when the revoke waits for it."""


@dataclass(frozen=True)
class Expected:
    """What a call must do."""

    errno: str | None = None
    """The errno with which the kernel refuses it; None if it succeeds."""
    why: str = ""
    """The rule behind the errno."""
    waits: tuple[Wait, ...] = ()
    """What the call waits for, in this order."""
    ended: tuple[str, ...] = ()
    """Windows and attachments whose mapping it ends by a revoke, and that have no new one."""


@dataclass
class Model:
    """The state that a device and its buffers must have.

    ``known``: ids of the known issues that the kernel under test has. The device is open at first: ``device0``.
    """

    known: frozenset[str] = frozenset()
    memory: bool = True
    """COMMAND.MEM."""
    d3hot: bool = False
    low_power: Literal["plain", "wakeup"] | None = None
    driver: str | None = "device0"
    """The fd through which the program drives the device; None once it is closed."""
    devices: set[str] = field(default_factory=lambda: {"device0"})
    """The program's fds of the device."""
    processes: dict[str, Buffer | None] = field(default_factory=dict)
    """What each other process has open: a buffer, or None for the device."""
    buffers: dict[str, Buffer] = field(default_factory=dict)
    """The program's fds of buffers."""
    windows: dict[str, Window] = field(default_factory=dict)
    attachments: dict[str, Attachment] = field(default_factory=dict)
    exported: list[Buffer] = field(default_factory=list)
    """The buffers of the open device, in the order of their export. A revoke takes them in this order."""
    _made: dict[str, int] = field(default_factory=lambda: {"device": 1})

    @property
    def is_open(self) -> bool:
        """Whether anyone has the device open."""
        return bool(self.devices) or None in self.processes.values()

    @property
    def enabled(self) -> bool:
        """Whether the device's memory is enabled, so that its buffers are live."""
        return self.memory and not self.d3hot and not self.low_power

    def held(self) -> list[Buffer]:
        """Return every buffer that something still refers to."""
        return list(dict.fromkeys(self._uses()))

    def _uses(self) -> list[Buffer]:
        """Return the buffer of each use: an fd, a window or an attachment."""
        return [
            *self.buffers.values(),
            *filter(None, self.processes.values()),
            *(window.buffer for window in self.windows.values()),
            *(attachment.buffer for attachment in self.attachments.values()),
        ]

    # What a program may do next

    def choices(self, do: str) -> list[Call]:
        """Return the calls of the action ``do`` that are possible now, the plainest first."""
        calls: Iterator[Call] = self._may_change(do) if do in CHANGES else getattr(self, f"_may_{do}")()
        return [call for call in calls if self._has_room(call)]

    def _has_room(self, call: Call) -> bool:
        if call.result is None:
            return True
        kind = call.result.rstrip("0123456789")
        return len(getattr(self, PLACES[kind])) < MOST[kind]

    def _new(self, kind: str) -> str:
        return f"{kind}{self._made.get(kind, 0)}"

    def _resumable(self) -> bool:
        """Whether the program may make a call that resumes the device, as every ioctl does. It would end ``wakeup``."""
        return self.low_power is None or (self.low_power == "plain" and "live-in-low-power" not in self.known)

    def _may_export(self) -> Iterator[Call]:
        if self.driver and self._resumable():
            yield Call("export", (), self._new("buffer"))

    def _may_dup(self) -> Iterator[Call]:
        for name in self.buffers:
            yield Call("dup", (name,), self._new("buffer"))
        if self.driver:
            yield Call("dup", (self.driver,), self._new("device"))

    def _may_fork(self) -> Iterator[Call]:
        for name in filter(None, (self.driver, *self.buffers)):
            yield Call("fork", (name,), self._new("process"))

    def _may_open(self) -> Iterator[Call]:
        if not self.is_open:
            yield Call("open", (), self._new("device"))

    def _may_close(self) -> Iterator[Call]:
        for name in (*self.buffers, *sorted(self.devices)):
            yield from self._with_closing(Call("close", (name,)))

    def _may_kill(self) -> Iterator[Call]:
        for name in self.processes:
            yield from self._with_closing(Call("kill", (name,)))

    def _may_attach(self) -> Iterator[Call]:
        for name, buffer in self.buffers.items():
            for importer in IMPORTERS:
                if importer == "rxe" and self._holds_rdma_maps(buffer):
                    continue
                result = self._new("window") if buffer.state is State.OK else None
                yield Call("attach", (name, importer), result)

    def _holds_rdma_maps(self, buffer: Buffer) -> bool:
        """Whether a map of the RDMA core would wait for a fence (ib_umem_dmabuf_map_pages)."""
        of_buffer = [each for each in self.attachments.values() if each.buffer is buffer]
        return any(each.fenced and each.usage == "kernel" for each in of_buffer)

    def _may_attach_driver(self) -> Iterator[Call]:
        for name, buffer in self.buffers.items():
            for driver in DRIVERS:
                if driver == "remap" and "unrevoke-notified-too-early" in self.known:
                    continue
                result = self._new("attachment") if buffer.state is State.OK else None
                yield Call("attach_driver", (name, driver), result)

    def _may_detach(self) -> Iterator[Call]:
        for name in self.windows:
            yield Call("detach", (name,))
        for name, attachment in self.attachments.items():
            if not attachment.fenced:
                yield Call("detach", (name,))

    def _may_map(self) -> Iterator[Call]:
        return (Call("map", (name,)) for name, each in self.attachments.items() if not each.mapped)

    def _may_unmap(self) -> Iterator[Call]:
        return (Call("unmap", (name,)) for name, each in self.attachments.items() if each.mapped)

    def _may_fence(self) -> Iterator[Call]:
        for name, attachment in self.attachments.items():
            if attachment.buffer.state is State.OK and not attachment.fenced:
                yield from (Call("fence", (name, usage)) for usage in USAGES)

    def _may_ring(self) -> Iterator[Call]:
        for name in self.windows:
            yield Call("ring", (name,))
        for name, attachment in self.attachments.items():
            if attachment.mapped:
                yield Call("ring", (name,))

    def _may_change(self, do: str) -> Iterator[Call]:
        if self.driver and self._can_change(do):
            yield from self._with_closing(Call(do))
            for width in WIDTHS if do in CONFIG_WRITES else ():
                yield from self._with_closing(Call(do, (width,)))

    def _may_bad_entry(self) -> Iterator[Call]:
        if self.driver and self._resumable():
            yield Call("bad_entry")

    def _may_probe_low_power(self) -> Iterator[Call]:
        if self.driver and self._resumable():
            yield Call("probe_low_power")

    def _can_change(self, do: str) -> bool:
        """Return whether the state of the device allows a change of it whose outcome the contract decides."""
        if do == "low_power_exit":
            return not self.d3hot
        if do == "wake":
            return self.low_power == "wakeup" and "revoked-after-wakeup" not in self.known
        # A runtime suspend moves the device from D3hot to D0, whenever it comes: the two are not combined.
        if do in ("d3hot", "d0"):
            return not self.low_power
        if do in ENTRIES and self.d3hot:
            return False
        return self._resumable()

    def _with_closing(self, call: Call) -> Iterator[Call]:
        """Yield the call and, if it waits, the call during which another buffer's last fd is closed."""
        yield call
        if self.waits(call):
            for name, buffer in self.buffers.items():
                if buffer in self.exported and self._uses().count(buffer) == 1:
                    yield Call(call.do, call.args, None, closing=name)

    # What a call must do

    def refuses(self, call: Call) -> bool:
        """Return whether the kernel must refuse a possible call."""
        return bool(self._refusal(call).errno)

    def apply(self, call: Call) -> Expected:
        """Change the state as the call must. Raises UsageError for a call that is not possible now."""
        if call.do not in ACTIONS:
            raise UsageError(f"{call}: no such call", hint=f"calls: {', '.join(ACTIONS)}")
        if call not in self.choices(call.do):
            raise UsageError(f"{call}: not possible here")
        waits = self.waits(call)
        mapped = {name: each for name, each in self.windows.items() if each.live}
        mapped_by_drivers = {name: each.notified for name, each in self.attachments.items() if each.mapped}
        refused = self._refusal(call)
        if not refused.errno:
            if call.result:
                kind = call.result.rstrip("0123456789")
                self._made[kind] = self._made.get(kind, 0) + 1
            if call.do in CHANGES:
                self._change(call.do)
            else:
                getattr(self, f"_do_{call.do}")(call)
            if call.closing:
                self.buffers.pop(call.closing)
                self._forget()
        ended = [name for name, window in mapped.items() if not window.live]
        ended += [
            name
            for name, notified in mapped_by_drivers.items()
            if name in self.attachments
            and self.attachments[name].notified > notified
            and not self.attachments[name].mapped
        ]
        return Expected(refused.errno, refused.why, waits, tuple(ended))

    def _refusal(self, call: Call) -> Expected:
        if call.do in ENTRIES and self.low_power:
            return Expected("EINVAL", "a second entry into low power is refused")
        if call.do == "bad_entry":
            return Expected("EINVAL", "an entry into low power with a bad eventfd is refused")
        buffer = None
        if call.do in ("attach", "attach_driver"):
            buffer = self.buffers[call.args[0]]
        elif call.do == "map":
            buffer = self.attachments[call.args[0]].buffer
        if buffer is None or buffer.state is State.OK:
            return Expected()
        verb = "mapped" if call.do == "map" else "attached to"
        return Expected("ENODEV", f"a {buffer.state.value} buffer cannot be {verb}")

    def waits(self, call: Call) -> tuple[Wait, ...]:
        """Return what the call waits for if it revokes."""
        if not self._revokes(call):
            return ()
        waits = []
        for buffer in self.exported:
            if buffer.state is not State.OK:
                continue
            of_buffer = [(name, each) for name, each in self.attachments.items() if each.buffer is buffer]
            waits += [Wait(name, "fence", each.notified + 1) for name, each in of_buffer if each.fenced]
            waits += [
                Wait(name, "importer", each.notified + 1)
                for name, each in of_buffer
                if each.mapped and each.driver == "slow"
            ]
        return tuple(waits)

    def _revokes(self, call: Call) -> bool:
        if call.do == "close" and call.args[0] in self.devices:
            return len(self.devices) == 1 and None not in self.processes.values()
        if call.do == "kill" and self.processes[call.args[0]] is None:
            return not self.devices and list(self.processes.values()).count(None) == 1
        return call.do in REVOKING

    def _revoke(self, state: State = State.REVOKED) -> None:
        for buffer in self.exported:
            if buffer.state is State.OK:
                for window in self.windows.values():
                    window.live = window.live and window.buffer is not buffer
                for each in self.attachments.values():
                    if each.buffer is buffer:
                        each.notified += 1
                        each.mapped = each.fenced = False
            buffer.state = state

    def _unrevoke(self) -> None:
        for buffer in self.exported:
            if buffer.state is State.REVOKED:
                buffer.state = State.OK
                for each in self.attachments.values():
                    if each.buffer is buffer:
                        each.notified += 1
                        each.mapped = each.mapped or each.driver == "remap"

    def _change(self, do: str) -> None:
        """Change the state of the device, and revoke or un-revoke as that demands. A reset revokes in any case."""
        for name, value in CHANGES[do].items():
            setattr(self, name, value)
        if do in RESETS or not self.enabled:
            self._revoke()
        if self.enabled:
            self._unrevoke()

    def _forget(self) -> None:
        """Forget the buffers without a user, and make the others dead once the device is closed."""
        held = self.held()
        self.exported = [buffer for buffer in self.exported if buffer in held]
        if not self.is_open and self.exported:
            self._revoke(State.DEAD)
            self.exported = []

    def _do_export(self, call: Call) -> None:
        buffer = Buffer(State.OK if self.enabled else State.REVOKED)
        self.buffers[call.result or ""] = buffer
        self.exported.append(buffer)

    def _do_dup(self, call: Call) -> None:
        if call.args[0] in self.buffers:
            self.buffers[call.result or ""] = self.buffers[call.args[0]]
        else:
            self.devices.add(call.result or "")

    def _do_fork(self, call: Call) -> None:
        self.processes[call.result or ""] = self.buffers.get(call.args[0])

    def _do_open(self, call: Call) -> None:
        self.driver, self.memory, self.d3hot, self.low_power = call.result, True, False, None
        self.devices.add(call.result or "")

    def _do_close(self, call: Call) -> None:
        (name,) = call.args
        self.buffers.pop(name, None)
        self.devices.discard(name)
        if name == self.driver:
            self.driver = None
        self._forget()

    def _do_kill(self, call: Call) -> None:
        self.processes.pop(call.args[0])
        self._forget()

    def _do_attach(self, call: Call) -> None:
        self.windows[call.result or ""] = Window(self.buffers[call.args[0]])

    def _do_attach_driver(self, call: Call) -> None:
        self.attachments[call.result or ""] = Attachment(self.buffers[call.args[0]], call.args[1])

    def _do_detach(self, call: Call) -> None:
        self.windows.pop(call.args[0], None)
        self.attachments.pop(call.args[0], None)
        self._forget()

    def _do_map(self, call: Call) -> None:
        self.attachments[call.args[0]].mapped = True

    def _do_unmap(self, call: Call) -> None:
        self.attachments[call.args[0]].mapped = False

    def _do_fence(self, call: Call) -> None:
        attachment = self.attachments[call.args[0]]
        attachment.fenced, attachment.usage = True, call.args[1]

    def _do_ring(self, call: Call) -> None:
        """Change nothing."""

    _do_bad_entry = _do_probe_low_power = _do_ring


ACTIONS = (*(name.removeprefix("_do_") for name in vars(Model) if name.startswith("_do_")), *CHANGES)
"""The names of all calls."""


def check(program: Program, known: frozenset[str]) -> None:
    """Check that the model allows a program. Raises UsageError with the number of the first wrong call."""
    model = Model(known)
    for number, call in enumerate(program, 1):
        try:
            model.apply(call)
        except UsageError as error:
            raise UsageError(f"call {number}, {error}", hint=error.hint) from None


def allowed(program: Program, known: frozenset[str]) -> bool:
    """Return whether the model allows a program."""
    try:
        check(program, known)
    except UsageError:
        return False
    return True
