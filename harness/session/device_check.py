# SPDX-License-Identifier: GPL-2.0-only
"""Check a machine's vfio-user devices for faults from the host, past QEMU and the guest.

For a machine on which the guest can no longer be asked: it hangs, has crashed, or does not boot. The check takes the
controllers from their users, so the machine is of no further use.
"""

import time
from collections.abc import Callable, Iterator

from harness.config.machine import Device
from harness.errors import HarnessError
from harness.session.stimuli import QUEUES
from harness.session.vfio_user import VfioUserDevice
from harness.vm import Machine
from harness.witness.device_log import DeviceLogs
from harness.witness.selfcheck import AGAIN, RINGS

REGISTERS, CONFIG = 0, 7
"""Regions: BAR 0, and config space (VFIO_PCI_CONFIG_REGION_INDEX)."""
CONSTANT = (0x00, 0x08, 0x2C, 0x34)
"""Dwords of config space that never change: ids, class, subsystem, capability pointer."""
READS = 8
"""How often each is read."""
SET_UP = ((0x14, 4, 0), (0x24, 4, 0x10001), (0x28, 8, QUEUES), (0x30, 8, QUEUES + 0x1000), (0x14, 4, 1))
"""Writes to BAR 0, as (offset, width, value), that enable a controller with empty admin queues of two entries."""
CSTS, READY = 0x1C, "01000000"


def fault(machine: Machine, since: float) -> str:
    """Return the fault of a vfio-user device of the machine, now or since the time ``since``; "" if there is none.

    ``since``: time.monotonic(). A fault is an answer that changes, a doorbell that the controller does not log, or an
    answer that came too late or not at all.
    """
    logs = DeviceLogs(machine.device_logs)
    return _first(machine, lambda device: _faults(machine, logs, device, since))


def changing_config(machine: Machine) -> str:
    """Return which constant dword of a vfio-user device's config space changes; "" if none does. Nothing is written.

    About 1 ms for each device.
    """
    return _first(machine, lambda device: _changing_config(machine, device))


def _first(machine: Machine, faults: Callable[[Device], Iterator[str]]) -> str:
    for device, _ in machine.config.walk():
        if device.vfio_user:
            try:
                if found := next(faults(device), ""):
                    return f"device {device.id} is faulty: {found}"
            except HarnessError as error:
                return str(error)
    return ""


def _faults(machine: Machine, logs: DeviceLogs, device: Device, since: float) -> Iterator[str]:
    for event in logs.since(since, device.id):
        if event.event == "late":
            yield f"it answered an access after {event.fields['took']} s"
        if event.event == "defect":
            yield f"its model failed: {event.fields['why']}"
    own = VfioUserDevice(machine, device.id)
    own.behave()
    yield from _changing_config(machine, device)
    if device.kind == "nvme":
        for _ in range(AGAIN):
            yield from _unlogged(own, logs)


def _changing_config(machine: Machine, device: Device) -> Iterator[str]:
    found = VfioUserDevice(machine, device.id).answers(CONFIG, CONSTANT, READS)
    for offset, answers in zip(CONSTANT, found, strict=True):
        if len(answers) > 1:
            yield f"config space at {offset:#x} reads as {', '.join(answers)}"


def _unlogged(own: VfioUserDevice, logs: DeviceLogs) -> Iterator[str]:
    """Ring the doorbells of the witness's self-check, and compare the controller's log with it."""
    began = time.monotonic()
    for offset, width, value in (*SET_UP, *(write for write, _ in RINGS)):
        own.write(REGISTERS, offset, value.to_bytes(width, "little"))
    (answers,) = own.answers(REGISTERS, [CSTS], READS)
    if answers != [READY]:
        yield f"its CSTS is {', '.join(answers)} after it was enabled"
    seen = [(bell.queue, bell.qid, bell.value, bell.accepted) for bell in logs.doorbells(began)]
    missing = [bell for _, bell in RINGS if (bell.queue, bell.qid, bell.value, bell.accepted) not in seen]
    if missing:
        yield f"{len(missing)} of {len(RINGS)} doorbells are not in its log, e.g. {missing[0]}"
