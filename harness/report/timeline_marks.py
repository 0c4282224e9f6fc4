# SPDX-License-Identifier: GPL-2.0-only
"""The table that says in which lane of a timeline an observation is drawn, and as what."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from harness.verdict import Evidence


class Lane(StrEnum):
    """The lanes of a timeline, from the top."""

    HOST = "host"
    QMP = "QMP"
    TRACE = "device trace"
    IOMMU = "IOMMU"
    GUEST = "guest"


class Kind(StrEnum):
    """What an observation shows. The value is the CSS class of its mark."""

    CALL = "call"
    """A call into the guest, or anything else without a meaning of its own."""
    EXPORT = "export"
    MAP = "map"
    ACCESS = "access"
    """A P2P read or write by the importer."""
    DOORBELL = "doorbell"
    REVOKE = "revoke"
    UNREVOKE = "unrevoke"
    RACE = "race"
    """Two calls at once, one of them paused inside the kernel."""
    NOTIFIED = "notified"
    FAULT = "fault"
    SPLAT = "splat"
    GAP = "gap"
    """Observations that the record has left out."""


@dataclass(frozen=True)
class Look:
    """How an observation is drawn."""

    lane: Lane
    kind: Kind = Kind.CALL
    label: str = ""
    revoked: bool | None = None
    """Whether the device's buffers are revoked from now on; None if that stays as it was."""


def _guest(kind: Kind, label: str, *calls: str, revoked: bool | None = None) -> dict[str, Look]:
    return dict.fromkeys(calls, Look(Lane.GUEST, kind, label, revoked))


CALLS: dict[str, Look] = {
    **_guest(Kind.EXPORT, "export", "Device.export"),
    **_guest(Kind.MAP, "map", "Importer.attach", "Importer.register", "Ioas.map_file", "Attachment.map", "Umem.map"),
    **_guest(Kind.ACCESS, "P2P write", "Window.store32", "Window.store32_after", "Window.write"),
    **_guest(Kind.ACCESS, "P2P read", "Window.read", "Importer.dma_read"),
    **_guest(Kind.REVOKE, "reset", "Device.reset"),
    **_guest(Kind.REVOKE, "FLR", "Device.flr"),
    **_guest(Kind.REVOKE, "hot reset", "Device.hot_reset"),
    **_guest(Kind.REVOKE, "sysfs reset", "pci.reset"),
    **_guest(Kind.REVOKE, "memory off", "Device.set_memory(on=False", revoked=True),
    **_guest(Kind.REVOKE, "D3hot", "Device.set_power_state(state=3", revoked=True),
    **_guest(Kind.REVOKE, "low power", "Device.low_power_entry", "Device.low_power_entry_with_wakeup", revoked=True),
    **_guest(Kind.REVOKE, "close", "Device.close", revoked=True),
    **_guest(Kind.REVOKE, "unbind", "pci.unbind", revoked=True),
    **_guest(Kind.UNREVOKE, "memory on", "Device.set_memory(on=True", revoked=False),
    **_guest(Kind.UNREVOKE, "D0", "Device.set_power_state(state=0", revoked=False),
    **_guest(Kind.UNREVOKE, "low power exit", "Device.low_power_exit", revoked=False),
    **_guest(Kind.CALL, "", "vfio.open_cdev", "vfio.open_group", "vfio.open_node", "Device.open_again", revoked=False),
}
"""The calls into the guest that have a meaning: ``class.method`` or ``module.function``, and if it decides, the first
argument. Every other call is a plain mark."""

SET_UP = ("nvme.NvmeEngine", "dma_api_nvme.open_nvme")
"""Calls that ring doorbells of the importer's own admin queue, which no P2P write has rung."""
ENGINE_QUEUE = 33
"""The importing NVMe controller's own queue, ``ENGINE_QUEUE`` of harness/guest/nvme.py. It rings for each DMA."""

_CALL = re.compile(r"(?:in a forked process: )?(?P<name>[\w.]+)\((?P<first>\w+=\w+)?")
_ERRNO = re.compile(r"\): (?P<errno>E[A-Z0-9]+)\b")
_NOTIFIED = re.compile(r"\w+\.wait_notified\(.*\) = True")
_RACE = re.compile(r"[\w.]+ paused at \w+, [\w.]+ made meanwhile")
_DOORBELL = re.compile(r"doorbell: sq (?P<qid>\d+) ")
_FAULT = re.compile(r"DMA fault: ")
_LEFT_OUT = re.compile(r"\((?P<count>\d+ more)\)")
_NO_SPLAT = re.compile(r"the guest logged: |console")


def look(item: Evidence) -> Look:
    """Return how an observation is drawn."""
    match item.source:
        case "trace":
            return _trace(item.text)
        case "console":
            plain = _NO_SPLAT.match(item.text)
            return Look(Lane.GUEST) if plain else Look(Lane.GUEST, Kind.SPLAT, "splat")
        case "guest":
            return _call(item.text)
        case "qmp":
            return Look(Lane.QMP)
        case "host":
            return Look(Lane.HOST)


def _trace(text: str) -> Look:
    if gap := _LEFT_OUT.fullmatch(text):
        return Look(Lane.TRACE, Kind.GAP, gap["count"])
    if _FAULT.match(text):
        return Look(Lane.IOMMU, Kind.FAULT, "fault")
    rung = _DOORBELL.match(text)
    if rung and int(rung["qid"]) != ENGINE_QUEUE:
        return Look(Lane.TRACE, Kind.DOORBELL, "doorbell")
    return Look(Lane.TRACE)


def _call(text: str) -> Look:
    if _NOTIFIED.match(text):
        return Look(Lane.GUEST, Kind.NOTIFIED, "notified")
    if _RACE.match(text):
        return Look(Lane.GUEST, Kind.RACE, "race")
    call = _CALL.match(text)
    if call is None:
        return Look(Lane.GUEST)
    found = CALLS.get(call["name"]) or CALLS.get(f"{call['name']}({call['first']}", Look(Lane.GUEST))
    errno = _ERRNO.search(text)
    if errno is None or not found.label:
        return found
    refused = Kind.CALL if found.kind in (Kind.REVOKE, Kind.UNREVOKE) else found.kind
    return replace(found, kind=refused, label=f"{found.label}: {errno['errno']}", revoked=None)


def looks(items: Iterable[Evidence]) -> list[Look]:
    """Return how each observation of a case is drawn; ``items`` in order of time.

    A doorbell during the set-up of the importer is a plain mark. So is one before the end of the first call: the record
    keeps the latest calls only, and the set-up may be among those that it has dropped.
    """
    found: list[Look] = []
    waiting: list[int] = []
    first = True
    for item in items:
        found.append(look(item))
        if found[-1].kind is Kind.DOORBELL:
            waiting.append(len(found) - 1)
        if item.source == "guest":
            if first or item.text.startswith(SET_UP):
                for index in waiting:
                    found[index] = Look(Lane.TRACE)
            waiting.clear()
            first = False
    return found
