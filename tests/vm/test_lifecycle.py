# SPDX-License-Identifier: GPL-2.0-only
"""The life of an export: what revokes it, what un-revokes it, and what must not disturb it."""

from collections.abc import Callable

import pytest

from harness.cases.constants import PCI_D0, UNDER_TEST
from harness.cases.marks import TRIGGERS, importers, rows_in, triggers
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring, ring_once
from harness.errors import KernelErrno
from harness.session import Device, DmaBuf, Importer, Nvme, Session, pci, recording
from harness.session.device import ResetName
from harness.session.nvme import REGISTERS
from harness.witness import Watch

rows = rows_in("lifecycle")

GLANCE_S = 0.02
"""Seconds that the device gets to run a command whose doorbell the host did not see. Short: many cases wait for it."""

EXPORTER = "vfio_pci_core"
"""The module with the exporter's dma_buf_ops."""

HARMLESS: dict[str, Callable[[Device], None]] = {
    "COMMAND with MEM as it was": lambda device: device.set_memory(True),
    "COMMAND.MASTER 0": lambda device: device.set_master(False),
    "COMMAND.MASTER 1": lambda device: device.set_master(True),
    "PMCSR D0 in D0": lambda device: device.set_power_state(PCI_D0),
    "LOW_POWER_EXIT without an entry": Device.low_power_exit,
}
"""User actions that leave the memory enabled all along."""


@triggers(
    *("d3hot iommufd+edu", "d3hot iommufd+nvme", "d3hot rxe", "low-power iommufd+nvme", "low-power-wakeup rxe"),
    *("flr iommufd+nvme", "flr rxe", "hot-reset iommufd+edu", "hot-reset iommufd+nvme", "hot-reset rxe"),
    area="lifecycle",
)
def test_trigger_revokes(nvme: Nvme, buffer: DmaBuf, importer: Importer, trigger: str, watch: Watch) -> None:
    """Resetting or disabling the device revokes every mapping for good; once it is back the same fd can be mapped."""
    action = TRIGGERS[trigger]
    old = importer.attach(buffer)
    must_arrive(ring(nvme, old, watch), f"before {trigger} the mapping is live")

    queued = nvme.queue_identify()
    action.act(nvme.device)
    if action.undo:
        must_be_blocked(ring_once(queued, old, watch), f"while {trigger} lasts no mapping reaches the device")
        with must_fail("ENODEV", f"while {trigger} lasts the buffer cannot be mapped"):
            importer.attach(buffer)
        action.undo(nvme.device)

    nvme.start()
    result = ring(nvme, old, watch, silence=GLANCE_S)
    must_be_blocked(result, f"a mapping made before {trigger} is dead for good")
    must_arrive(ring(nvme, importer.attach(buffer), watch), f"after {trigger} a new mapping of the same fd is live")


VERSION = 8
"""The offset of VS in a controller's registers (NVMe base specification, section 3.1): it never changes."""


@rows("lifecycle.cpu-waits")
@pytest.mark.parametrize("reset", ["reset", "flr", pytest.param("hot_reset", marks=pytest.mark.needs("hot-reset"))])
def test_the_cpu_waits_for_a_reset(nvme: Nvme, reset: ResetName) -> None:
    """A load through an mmap of a BAR waits for the end of a reset that is under way."""
    version = int.from_bytes(nvme.device.read(REGISTERS, VERSION, 4), "little")
    found = nvme.device.loads_during(reset, REGISTERS, VERSION)
    must(found == [version], f"a load through an mmap never reaches a device in {reset}", list(map(hex, found)))


@rows("lifecycle.command-other")
@importers("iommufd+nvme", "rxe")
def test_harmless_writes_disturb_nothing(nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """An action that leaves the device's memory enabled disturbs no mapping."""
    window = importer.attach(buffer)
    for name, act in HARMLESS.items():
        act(nvme.device)
        must_arrive(ring_once(nvme.queue_identify(), window, watch), f"{name} disturbs no mapping")
    must_arrive(ring(nvme, window, watch), "a mapping that nothing revoked reaches the device")


@rows("lifecycle.export")
@triggers("command-mem iommufd+nvme", "d3hot rxe")
def test_export_while_disabled(nvme: Nvme, importer: Importer, trigger: str, watch: Watch) -> None:
    """A buffer exported while the device's memory is disabled starts revoked, and is live once it is enabled."""
    action = TRIGGERS[trigger]
    action.act(nvme.device)
    buffer = nvme.export_doorbells()
    with must_fail("ENODEV", f"a buffer exported during {trigger} cannot be mapped"):
        importer.attach(buffer)
    assert action.undo
    action.undo(nvme.device)
    must_arrive(ring(nvme, importer.attach(buffer), watch), f"a buffer exported during {trigger} is live after it")


NESTED = [
    ("command-mem", "d3hot"),
    ("d3hot", "command-mem"),
    ("low-power", "command-mem"),
    ("reset", "command-mem"),
    ("flr", "command-mem"),
    ("hot-reset", "command-mem"),
]
"""(inner, outer): the inner trigger begins and ends while the outer one lasts."""


@rows("lifecycle.combined")
@importers("iommufd+nvme", "rxe")
def test_the_last_obstacle_unrevokes(nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """Of two nested triggers, only the end of the outer one un-revokes."""
    for inner, outer in NESTED:
        window = importer.attach(buffer)
        inside, outside = TRIGGERS[inner], TRIGGERS[outer]
        assert outside.undo
        for step in filter(None, (outside.act, inside.act, inside.undo)):
            step(nvme.device)
            with must_fail("ENODEV", f"a buffer stays revoked while {outer} lasts, also through {inner}"):
                importer.attach(buffer)
        outside.undo(nvme.device)
        nvme.start()
        result = ring_once(nvme.queue_identify(), window, watch)
        must_be_blocked(result, f"a mapping made before {inner} in {outer} is dead for good")
        result = ring(nvme, importer.attach(buffer), watch)
        must_arrive(result, f"a buffer is live once {inner} and then {outer} have ended")


@rows("lifecycle.idempotent")
@importers("iommufd+nvme", "rxe")
def test_twice_is_once(nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """A second revoke and a second un-revoke change nothing, and all of it can be repeated."""
    for trigger in ("command-mem", "command-mem", "d3hot", "reset"):
        action = TRIGGERS[trigger]
        window = importer.attach(buffer)
        must_arrive(ring(nvme, window, watch), f"a mapping made before {trigger} is live, after any history")
        for step in filter(None, (action.act, action.act, action.undo, action.undo)):
            step(nvme.device)
        nvme.start()
        result = ring_once(nvme.queue_identify(), window, watch)
        must_be_blocked(result, f"{trigger} kills each mapping that was made before it")
    result = ring(nvme, importer.attach(buffer), watch)
    must_arrive(result, "after repeated revokes a new mapping of the same fd is live")


@rows("lifecycle.idempotent", "lifecycle.close")
@triggers("command-mem iommufd+nvme", "low-power rxe")
def test_close_while_revoked(session: Session, nvme: Nvme, importer: Importer, trigger: str, watch: Watch) -> None:
    """A device whose buffers are revoked can be closed and reopened; the buffers stay dead."""
    buffer = nvme.export_doorbells()
    old = importer.attach(buffer)
    TRIGGERS[trigger].act(nvme.device)
    nvme.device.close()
    with must_fail("ENODEV", "after the device's last close the buffer cannot be mapped"):
        importer.attach(buffer)
    reopened = session.open_nvme()
    result = ring(reopened, importer.attach(reopened.export_doorbells()), watch)
    must_arrive(result, f"a device that was closed during {trigger} can be reopened and exported")
    result = ring_once(reopened.queue_identify(), old, watch)
    must_be_blocked(result, "a mapping of a closed device does not reach the reopened device")


@rows("lifecycle.last-reference")
@importers("rxe")
def test_a_buffer_that_is_gone_disturbs_nothing(session: Session, nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """A released dma-buf disturbs no reset, close, unbind or reopening of its device."""
    importer.attach(used := nvme.export_doorbells()).detach()
    used.close()
    nvme.export_doorbells().close()
    nvme.device.reset()
    nvme.device.close()
    session.unbind(UNDER_TEST)
    reopened = session.open_nvme()
    result = ring(reopened, importer.attach(reopened.export_doorbells()), watch)
    must_arrive(result, "an export of the reopened device is live")


@rows("lifecycle.last-reference")
@importers("iommufd+nvme", "rxe")
def test_the_importer_keeps_the_buffer(nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """A mapping outlives the dma-buf's fd, and a reset still revokes it."""
    window = importer.attach(buffer)
    buffer.close()
    must_arrive(ring(nvme, window, watch), "a mapping is live after the dma-buf's fd is closed")
    nvme.device.reset()
    nvme.start()
    result = ring_once(nvme.queue_identify(), window, watch)
    must_be_blocked(result, "a reset revokes a buffer that only its importer still holds")


@rows("lifecycle.module")
@importers("iommufd+nvme")
def test_an_export_holds_its_module(session: Session, nvme: Nvme, importer: Importer) -> None:
    """An export holds the exporter's module until its last reference is gone, also when its device is closed."""
    before = session.module_users(EXPORTER)
    if before is None:
        pytest.skip(f"{EXPORTER} is built into the kernel")
    first, second = nvme.export_doorbells(), nvme.export_doorbells()
    window = importer.attach(second)
    steps: list[tuple[str, Callable[[], object], int]] = [
        ("after two exports", lambda: None, 2),
        ("after the unmap of one", window.detach, 2),
        ("after the device's close", nvme.device.close, 2),
        ("after the unbind of the device", lambda: session.unbind(UNDER_TEST), 2),
        ("after the close of the first export", first.close, 1),
        ("after the close of the second export", second.close, 0),
    ]
    for when, step, held in steps:
        step()
        found = (session.module_users(EXPORTER) or 0) - before
        must(found == held, f"{when} the exporter's module has {held} more users", found)


@rows("lifecycle.unbind", "around.rebind")
@importers("iommufd+nvme")
def test_unbind_waits_for_nothing(
    session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """The driver of a closed device can be unbound and bound again while an importer holds a buffer."""
    old = importer.attach(buffer)
    nvme.device.close()
    session.unbind(UNDER_TEST)
    rebound = session.open_nvme()
    with must_fail("ENODEV", "a buffer of a device that was unbound stays dead"):
        importer.attach(buffer)
    result = ring_once(rebound.queue_identify(), old, watch)
    must_be_blocked(result, "a mapping of a device that was unbound does not reach it when it is bound again")


@rows("importers.iommufd-unmap")
@importers("iommufd+nvme")
def test_a_dead_mapping_can_be_unmapped(nvme: Nvme, buffer: DmaBuf, importer: Importer) -> None:
    """IOMMU_IOAS_UNMAP of a mapping that a reset revoked succeeds, and returns its whole length."""
    window = importer.attach(buffer)
    nvme.device.reset()
    unmapped = window.detach()
    must(unmapped == window.length, "the unmap of a dead area returns its length", unmapped)


@rows("lifecycle.hot-reset")
@importers("rxe")
def test_failed_hot_reset_unrevokes(session: Session, importer: Importer, watch: Watch) -> None:
    """A hot reset revokes before it and un-revokes after it, even if it fails."""
    nvme = session.open_nvme("nvme1")
    buffer = nvme.export_doorbells()
    old = importer.attach(buffer)
    try:
        nvme.device.hot_reset()
    except KernelErrno as refusal:
        must(refusal.name == "ENOTTY", "a bus whose link does not come back in time fails the hot reset", refusal)
    else:
        pytest.skip("a hot reset of nvme1 does not fail here: this QEMU's port reports that its link is up")
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
"""User actions on a device in low power that enable its memory, or seem to."""


@rows("lifecycle.low-power")
@pytest.mark.parametrize("trigger", WAKING)
@importers("iommufd+nvme")
def test_low_power_stays_revoked(session: Session, nvme: Nvme, importer: Importer, trigger: str, watch: Watch) -> None:
    """From LOW_POWER_ENTRY to LOW_POWER_EXIT every buffer stays revoked: the device may be suspended at any time."""
    buffer = nvme.export_doorbells()
    queued = nvme.queue_identify()
    nvme.device.low_power_entry()
    made = WAKING[trigger](nvme)
    try:
        window = importer.attach(made if isinstance(made, DmaBuf) else buffer)
    except KernelErrno as refusal:
        must(refusal.name == "ENODEV", "a buffer of a device in low power cannot be mapped", refusal)
    else:
        with recording.left_out():
            result = ring_once(queued, window, watch)
            seen = f"it was mapped, with the device in {pci.power_state(session, UNDER_TEST)}, and then {result}"
        must(False, f"after {trigger} in low power a buffer stays revoked", seen)
    nvme.device.low_power_exit()
    nvme.start()
    result = ring(nvme, importer.attach(buffer), watch)
    must_arrive(result, "after LOW_POWER_EXIT a new mapping of the same fd is live")


@rows("lifecycle.low-power")
@importers("iommufd+nvme")
def test_waking_up_unrevokes(session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """A wake-up by an access, which the eventfd signals, un-revokes buffers without LOW_POWER_EXIT."""
    nvme.device.low_power_entry_with_wakeup()
    if not pci.suspended(session, UNDER_TEST):
        pytest.skip("the kernel does not suspend the device, so there is nothing to wake from")
    nvme.device.command()
    must(nvme.device.woken(), "an access of a suspended device signals its wake-up")
    try:
        window = importer.attach(buffer)
    except KernelErrno as refusal:
        must(False, "after the wake-up is signalled a buffer can be mapped", refusal)
    nvme.start()
    must_arrive(ring(nvme, window, watch), "after the wake-up a new mapping of the same fd is live")


@rows("lifecycle.not-wired")
@importers("iommufd+nvme")
def test_sysfs_reset_revokes(session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch) -> None:
    """An administrator's reset through sysfs revokes mappings as VFIO_DEVICE_RESET does."""
    old = importer.attach(buffer)
    pci.sysfs_reset(session, UNDER_TEST)
    nvme.start()
    result = ring(nvme, old, watch, silence=GLANCE_S)
    must_be_blocked(result, "a mapping made before a reset through sysfs no longer reaches the device")


@pytest.mark.machine("aer")
@rows("lifecycle.not-wired")
@importers("rxe")
def test_error_recovery_revokes(session: Session, importer: Importer, watch: Watch) -> None:
    """The bus reset that recovers from a fatal PCIe error revokes mappings as a hot reset does."""
    if not pci.has_native_aer(session, "rp-nvme0"):
        pytest.skip("this machine's firmware handles PCIe errors; on machine aer the kernel does")
    nvme = session.open_nvme()
    old = importer.attach(nvme.export_doorbells())
    queued = nvme.queue_identify()
    pci.recover_from_error(session, "rp-nvme0")
    result = ring_once(queued, old, watch)
    must_be_blocked(result, "a mapping made before error recovery no longer reaches the device")
