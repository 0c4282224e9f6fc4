# SPDX-License-Identifier: GPL-2.0-only
"""The life of an export: what revokes it, what brings it back, and what must leave it alone."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_once
from harness.errors import KernelErrno
from harness.session import Device, DmaBuf, Importer, Nvme, Session
from harness.witness import Watch

D0, D3HOT = 0, 3

GLANCE_S = 0.02
"""How long the device is given to run a command whose doorbell the host did not see rung."""


@dataclass(frozen=True)
class Trigger:
    """What a user does to a device that must revoke; ``undo`` ends a state that lasts."""

    row: str
    act: Callable[[Device], None]
    undo: Callable[[Device], None] | None = None


TRIGGERS = {
    "command-mem": Trigger("lifecycle.command-mem", lambda d: d.set_memory(False), lambda d: d.set_memory(True)),
    "d3hot": Trigger("lifecycle.power", lambda d: d.set_power_state(D3HOT), lambda d: d.set_power_state(D0)),
    "low-power": Trigger("lifecycle.low-power", Device.low_power_entry, Device.low_power_exit),
    "low-power-wakeup": Trigger("lifecycle.low-power", Device.low_power_entry_with_wakeup, Device.low_power_exit),
    "flr": Trigger("lifecycle.flr", Device.flr),
    "hot-reset": Trigger("lifecycle.hot-reset", Device.hot_reset),
    "reset": Trigger("lifecycle.reset", Device.reset),
}


HARMLESS: dict[str, Callable[[Device], None]] = {
    "COMMAND with MEM as it was": lambda device: device.set_memory(True),
    "COMMAND.MASTER 0": lambda device: device.set_master(False),
    "COMMAND.MASTER 1": lambda device: device.set_master(True),
    "PMCSR D0 in D0": lambda device: device.set_power_state(D0),
    "LOW_POWER_EXIT without an entry": Device.low_power_exit,
}
"""What a user does that leaves the memory enabled all along."""


def row(*names: str) -> pytest.MarkDecorator:
    """The rows of section 2 of the contract that a case covers."""
    return pytest.mark.contract("lifecycle", *(f"lifecycle.{name}" for name in names))


def importers(*names: str) -> pytest.MarkDecorator:
    """Run the case with these importers."""
    return pytest.mark.parametrize("importer", names, indirect=True)


def triggers(*pairs: str, rows: bool = False) -> pytest.MarkDecorator:
    """Run the case with each pair of ``trigger importer``; with ``rows`` it covers the triggers' rows."""
    split = [pair.split() for pair in pairs]
    marks = {trigger: pytest.mark.contract("lifecycle", TRIGGERS[trigger].row) for trigger, _ in split} if rows else {}
    params = [pytest.param(*pair, marks=marks.get(pair[0], ())) for pair in split]
    return pytest.mark.parametrize(("trigger", "importer"), params, indirect=["importer"])


@triggers(
    *("d3hot iommufd+edu", "d3hot iommufd+nvme", "d3hot rxe", "low-power iommufd+nvme", "low-power-wakeup rxe"),
    *("flr iommufd+nvme", "flr rxe", "hot-reset iommufd+edu", "hot-reset iommufd+nvme", "hot-reset rxe"),
    rows=True,
)
def test_trigger_revokes(nvme: Nvme, importer: Importer, trigger: str, watch: Watch) -> None:
    """What resets or disables the device revokes; once the device is back, the same fd can be mapped anew."""
    what = TRIGGERS[trigger]
    buffer = nvme.export_doorbells()
    old = importer.attach(buffer)
    must_arrive(ring(nvme, old, watch), f"before {trigger} the mapping is live")

    queued = nvme.queue_identify()
    what.act(nvme.device)
    if what.undo:
        must_be_blocked(ring_once(queued, old, watch), f"while {trigger} lasts no mapping reaches the device")
        with must_fail("ENODEV", f"while {trigger} lasts the buffer cannot be mapped"):
            importer.attach(buffer)
        what.undo(nvme.device)

    nvme.start()
    must_be_blocked(ring(nvme, old, watch, silence=GLANCE_S), f"a mapping made before {trigger} is dead for good")
    must_arrive(ring(nvme, importer.attach(buffer), watch), f"after {trigger} a new mapping of the same fd is live")


@row("command-other")
@importers("iommufd+nvme", "rxe")
def test_harmless_writes_disturb_nothing(nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """What leaves the device's memory enabled leaves its mappings alone."""
    window = importer.attach(nvme.export_doorbells())
    for name, act in HARMLESS.items():
        act(nvme.device)
        must_arrive(ring_once(nvme.queue_identify(), window, watch), f"{name} disturbs no mapping")
    must_arrive(ring(nvme, window, watch), "a mapping that nothing revoked reaches the device")


@row("export")
@triggers("command-mem iommufd+nvme", "d3hot rxe")
def test_export_while_disabled(nvme: Nvme, importer: Importer, trigger: str, watch: Watch) -> None:
    """A buffer that is exported while the device's memory is disabled starts revoked, and comes alive with it."""
    what = TRIGGERS[trigger]
    what.act(nvme.device)
    buffer = nvme.export_doorbells()
    with must_fail("ENODEV", f"a buffer exported during {trigger} cannot be mapped"):
        importer.attach(buffer)
    assert what.undo
    what.undo(nvme.device)
    must_arrive(ring(nvme, importer.attach(buffer), watch), f"a buffer exported during {trigger} is live after it")


NESTED = [
    ("command-mem", "d3hot"),
    ("d3hot", "command-mem"),
    ("low-power", "command-mem"),
    ("reset", "command-mem"),
    ("flr", "command-mem"),
    ("hot-reset", "command-mem"),
]
"""(inner, outer): what is done while the outer one lasts."""


@row("combined")
@importers("iommufd+nvme", "rxe")
def test_the_last_obstacle_unrevokes(nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """Of two things that revoke, the end of the inner one un-revokes nothing, and the end of the outer one does."""
    buffer = nvme.export_doorbells()
    for inner, outer in NESTED:
        window = importer.attach(buffer)
        inside, outside = TRIGGERS[inner], TRIGGERS[outer]
        assert outside.undo
        for step in filter(None, (outside.act, inside.act, inside.undo)):
            step(nvme.device)
            with must_fail("ENODEV", f"a buffer stays revoked while {outer} lasts, whatever comes of {inner}"):
                importer.attach(buffer)
        outside.undo(nvme.device)
        nvme.start()
        result = ring_once(nvme.queue_identify(), window, watch)
        must_be_blocked(result, f"a mapping made before {inner} in {outer} is dead for good")
        result = ring(nvme, importer.attach(buffer), watch)
        must_arrive(result, f"a buffer is live once {inner} and then {outer} have ended")


@row("idempotent")
@importers("iommufd+nvme", "rxe")
def test_twice_is_once(nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """Revoked twice, un-revoked twice, and all of it again: each mapping dies once, and the next one lives."""
    buffer = nvme.export_doorbells()
    for trigger in ("command-mem", "command-mem", "d3hot", "reset"):
        what = TRIGGERS[trigger]
        window = importer.attach(buffer)
        must_arrive(ring(nvme, window, watch), f"a mapping made before {trigger} is live, whatever was done before")
        for step in filter(None, (what.act, what.act, what.undo, what.undo)):
            step(nvme.device)
        nvme.start()
        result = ring_once(nvme.queue_identify(), window, watch)
        must_be_blocked(result, f"{trigger} kills each mapping that was made before it")
    must_arrive(ring(nvme, importer.attach(buffer), watch), "after all that a new mapping of the same fd is live")


@row("idempotent", "close")
@triggers("command-mem iommufd+nvme", "low-power rxe")
def test_close_while_revoked(session: Session, nvme: Nvme, importer: Importer, trigger: str, watch: Watch) -> None:
    """Closing a device whose buffers are revoked goes through, and leaves them dead; the device opens again."""
    buffer = nvme.export_doorbells()
    old = importer.attach(buffer)
    TRIGGERS[trigger].act(nvme.device)
    nvme.device.close()
    with must_fail("ENODEV", "after the device's last close the buffer cannot be mapped"):
        importer.attach(buffer)
    again = session.open_nvme()
    result = ring(again, importer.attach(again.export_doorbells()), watch)
    must_arrive(result, f"a device that was closed during {trigger} can be opened and exported anew")
    result = ring_once(again.queue_identify(), old, watch)
    must_be_blocked(result, "a mapping of a closed device does not reach the device opened anew")


@row("last-reference")
@importers("rxe")
def test_a_buffer_that_is_gone_disturbs_nothing(session: Session, nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """After a dma-buf's last reference is gone, the device is reset, closed, unbound and opened undisturbed."""
    importer.attach(used := nvme.export_doorbells()).detach()
    used.close()
    nvme.export_doorbells().close()
    nvme.device.reset()
    nvme.device.close()
    session.unbind("nvme0")
    again = session.open_nvme()
    must_arrive(ring(again, importer.attach(again.export_doorbells()), watch), "what is exported after that is live")


@row("last-reference")
@importers("iommufd+nvme", "rxe")
def test_the_importer_keeps_the_buffer(nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """A mapping outlives the dma-buf's fd, and a reset still kills it."""
    buffer = nvme.export_doorbells()
    window = importer.attach(buffer)
    buffer.close()
    must_arrive(ring(nvme, window, watch), "a mapping is live after the dma-buf's fd is closed")
    nvme.device.reset()
    nvme.start()
    result = ring_once(nvme.queue_identify(), window, watch)
    must_be_blocked(result, "a reset revokes a buffer that only its importer still holds")


@pytest.mark.contract("lifecycle", "lifecycle.unbind", "around.rebind")
@importers("iommufd+nvme")
def test_unbind_waits_for_nothing(session: Session, nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """Once the device is closed its driver can be unbound and bound again, whoever still holds a buffer of it."""
    buffer = nvme.export_doorbells()
    old = importer.attach(buffer)
    nvme.device.close()
    session.unbind("nvme0")
    again = session.open_nvme()
    with must_fail("ENODEV", "a buffer of a device that was unbound stays dead"):
        importer.attach(buffer)
    result = ring_once(again.queue_identify(), old, watch)
    must_be_blocked(result, "a mapping of a device that was unbound does not reach it when it is bound again")


@pytest.mark.contract("lifecycle", "importers.iommufd-unmap")
@importers("iommufd+nvme")
def test_a_dead_mapping_can_be_let_go(nvme: Nvme, importer: Importer) -> None:
    """Unmapping what a reset has killed succeeds, and iommufd says that it unmapped all of it."""
    window = importer.attach(nvme.export_doorbells())
    nvme.device.reset()
    unmapped = window.detach()
    must(unmapped == window.length, "the unmap of a dead area gives its length", unmapped)


@row("hot-reset")
@importers("rxe")
def test_failed_hot_reset_unrevokes(session: Session, importer: Importer, watch: Watch) -> None:
    """A hot reset that fails revokes like one that works, and un-revokes after it."""
    nvme = session.open_nvme("nvme1")
    buffer = nvme.export_doorbells()
    old = importer.attach(buffer)
    try:
        nvme.device.hot_reset()
    except KernelErrno as refusal:
        must(refusal.name == "ENOTTY", "a bus whose link does not come back in time fails the hot reset", refusal)
    else:
        pytest.skip("a hot reset of nvme1 does not fail here: this QEMU's port tells that its link is up")
    nvme.start()
    result = ring_once(nvme.queue_identify(), old, watch)
    must_be_blocked(result, "a mapping made before a failed hot reset is dead for good")
    result = ring(nvme, importer.attach(buffer), watch)
    must_arrive(result, "after a failed hot reset a new mapping of the same fd is live")


WAKING: dict[str, Callable[[Nvme], object]] = {
    "export": Nvme.export_doorbells,
    "command-write": lambda nvme: nvme.device.set_memory(True),
    "reset": lambda nvme: nvme.device.reset(),
    "flr": lambda nvme: nvme.device.flr(),
    "hot-reset": lambda nvme: nvme.device.hot_reset(),
}
"""What a user does to a device in low power that ends in memory being enabled, or seeming so."""


@row("low-power")
@pytest.mark.parametrize("trigger", WAKING)
@importers("iommufd+nvme")
def test_low_power_stays_revoked(session: Session, nvme: Nvme, importer: Importer, trigger: str, watch: Watch) -> None:
    """From LOW_POWER_ENTRY to LOW_POWER_EXIT nothing makes a buffer live: the device may be suspended at any time."""
    buffer = nvme.export_doorbells()
    queued = nvme.queue_identify()
    nvme.device.low_power_entry()
    made = WAKING[trigger](nvme)
    try:
        window = importer.attach(made if isinstance(made, DmaBuf) else buffer)
    except KernelErrno as refusal:
        must(refusal.name == "ENODEV", "a buffer of a device in low power cannot be mapped", refusal)
    else:
        result = ring_once(queued, window, watch)
        seen = f"it was mapped, with the device in {session.power_state('nvme0')}, and then {result}"
        must(False, f"after {trigger} in low power a buffer stays revoked", seen)
    nvme.device.low_power_exit()
    nvme.start()
    must_arrive(ring(nvme, importer.attach(buffer), watch), "after LOW_POWER_EXIT a new mapping of the same fd is live")


@row("low-power")
@importers("iommufd+nvme")
def test_waking_up_unrevokes(session: Session, nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """A device that wakes by an access, and says so by its eventfd, needs no LOW_POWER_EXIT; its buffers come alive."""
    buffer = nvme.export_doorbells()
    nvme.device.low_power_entry_with_wakeup()
    if not session.suspended("nvme0"):
        pytest.skip("the kernel does not suspend the device, so there is nothing to wake from")
    nvme.device.command()
    must(nvme.device.woken(), "an access of a suspended device signals its wake-up")
    try:
        window = importer.attach(buffer)
    except KernelErrno as refusal:
        must(False, "after the wake-up is signalled a buffer can be mapped", refusal)
    nvme.start()
    must_arrive(ring(nvme, window, watch), "after the wake-up a new mapping of the same fd is live")


@row("not-wired")
@importers("iommufd+nvme")
def test_sysfs_reset_revokes(session: Session, nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """A reset that an administrator asks for through sysfs kills mappings as VFIO_DEVICE_RESET does."""
    old = importer.attach(nvme.export_doorbells())
    session.sysfs_reset("nvme0")
    nvme.start()
    result = ring(nvme, old, watch, silence=GLANCE_S)
    must_be_blocked(result, "a mapping made before a reset through sysfs does not reach the device after it")


@pytest.mark.machine("aer")
@row("not-wired")
@importers("rxe")
def test_error_recovery_revokes(session: Session, importer: Importer, watch: Watch) -> None:
    """The bus reset by which the kernel recovers from a fatal PCIe error kills mappings, as a hot reset does."""
    if not session.has_native_aer("rp-nvme0"):
        pytest.skip("this machine's firmware keeps PCIe errors from the kernel; the machine aer lets it have them")
    nvme = session.open_nvme()
    old = importer.attach(nvme.export_doorbells())
    queued = nvme.queue_identify()
    session.recover_from_error("rp-nvme0")
    result = ring_once(queued, old, watch)
    must_be_blocked(result, "a mapping made before error recovery does not reach the device after it")
