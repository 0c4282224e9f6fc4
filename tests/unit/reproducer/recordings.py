# SPDX-License-Identifier: GPL-2.0-only
"""Recordings of cases as they fail, for the tests of reproducers."""

import json
import struct
from pathlib import Path
from typing import Any

from harness.session import recording
from harness.session.wire import Ref

Steps = list[dict[str, Any]]

EXPORTER = "0000:01:00.0"
IMPORTER = "0000:02:00.0"
DOORBELLS = struct.pack("<IIIIQQ", 0, 0, 0, 1, 0x1000, 0x1000)


def call(on: str | int, do: str, /, ok: object = None, **args: Any) -> dict[str, Any]:
    return {"call": [Ref(on) if isinstance(on, int) else on, do], "args": args, "ok": ok}


def refused(on: str | int, do: str, errno: str, of: str = "IOMMU_IOAS_MAP_FILE", /, **args: Any) -> dict[str, Any]:
    step = call(on, do, **args)
    del step["ok"]
    return {**step, "errno": errno, "of": of}


def check(sentence: str, *, holds: bool = True, rule: str = "") -> dict[str, Any]:
    return {"check": sentence, "holds": holds, "seen": "", "rule": rule}


END = call("rpc", "reset_all", keep=[])


def exporter() -> Steps:
    """Open the exporter, start it, and export its doorbells: objects 3 (device), 4 (controller), 5 (buffer)."""
    return [
        call("pci", "bind", bdf=EXPORTER, name="vfio-pci"),
        call("iommufd", "Iommufd", Ref(1)),
        call(1, "ioas", Ref(2)),
        call("vfio", "open_cdev", Ref(3), bdf=EXPORTER, iommufd=Ref(1), space=Ref(2)),
        call("nvme", "Controller", Ref(4), device=Ref(3)),
        call(4, "start"),
        call(3, "export", Ref(5), feature=11, payload=DOORBELLS),
        call(5, "size", 0x1000),
    ]


def importer() -> Steps:
    """Make an importer behind iommufd, as an earlier case did: object 14."""
    steps = [
        call("iommufd", "Iommufd", Ref(11)),
        call(11, "ioas", Ref(12)),
        call("vfio", "open_cdev", Ref(13), bdf=IMPORTER, iommufd=Ref(11), space=Ref(12)),
        call("nvme", "NvmeEngine", Ref(14), device=Ref(13)),
    ]
    return [{**step, "earlier": True} for step in steps]


def attach(number: int = 20) -> dict[str, Any]:
    return call(14, "attach", Ref(number), dmabuf=Ref(5), start=0, length=0x1000)


def ring(window: int = 20, *, completed: bool) -> Steps:
    return [
        call(4, "submit_identify", {"qid": 0, "cid": 1, "tail": 1}),
        {"ring": "begin"},
        call(window, "store32", offset=0, value=1),
        {"ring": "end"},
        call(4, "completed", {"status": 0, "result": 0} if completed else None, qid=0, cid=1, seconds=0.15),
    ]


def write(steps: Steps, path: Path) -> Path:
    """Write a recording as a run does."""
    path.write_text(json.dumps(steps, default=recording.encode))
    return path


STALE_MAPPING: Steps = [
    *importer(),
    *exporter(),
    attach(),
    call("pci", "reset", bdf=EXPORTER),
    call(4, "start"),
    *ring(completed=True),
    check("a mapping made before a reset no longer reaches the device", holds=False, rule="blocked"),
    END,
]
"""A case whose last doorbell arrives, and must not."""
NOT_UNREVOKED: Steps = [
    *importer(),
    *exporter(),
    call(3, "low_power_entry"),
    {"expect": "ENODEV", "sentence": "a revoked buffer cannot be mapped"},
    refused(14, "attach", "ENODEV", dmabuf=Ref(5), start=0, length=0x1000),
    {"expected": True},
    check("a revoked buffer cannot be mapped"),
    call(3, "low_power_exit"),
    refused(14, "attach", "ENODEV", dmabuf=Ref(5), start=0, length=0x1000),
    check("a buffer can be mapped again", holds=False),
    END,
]
"""A case whose last call is refused, and must not be."""
