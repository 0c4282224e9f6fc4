# SPDX-License-Identifier: GPL-2.0-only
"""The C of calls that need more than their integers, and the results that a program compares."""

import struct
from typing import Any

import pytest

from harness.errors import UsageError
from harness.reproducer.calls import CALLS
from harness.reproducer.row import Arguments, fnv1a

CODE: list[tuple[str, dict[str, Any], str]] = [
    ("Attachment.map", {}, "map(&on1)"),
    ("Attachment.map", {"direction": "both"}, "map(&on1)"),
    ("Attachment.map", {"direction": "to-device"}, "map_in_direction(&on1, DMA_TO_DEVICE)"),
    (
        "importer.Umem",
        {"bdf": None, "file": -1, "offset": 0, "length": 16, "kind": "pinned", "access": 1},
        "umem_get(&out1, NULL, -1, 0, 0x10, IMPORTER_UMEM_PINNED, 1)",
    ),
    (
        "importer.Umem",
        {"bdf": "0000:02:00.0", "file": "buffer1", "offset": 4096, "length": 16, "kind": "dynamic", "access": 1},
        'umem_get(&out1, "0000:02:00.0", buffer1.fd, 0x1000, 0x10, IMPORTER_UMEM_DYNAMIC, 1)',
    ),
    ("access.Access", {"space": "space1"}, "access_open(&out1, &space1, 0)"),
    (
        "importer.attach_repeatedly",
        {"bdf": "0000:02:00.0", "dmabuf": "buffer1", "times": 9, "static": False, "peer2peer": False},
        'attach_repeatedly("0000:02:00.0", buffer1.fd, IMPORTER_CALLBACK, 9)',
    ),
    ("Access.pin", {"iova": 4096, "length": 16, "write": True}, "access_pin(&on1, 0x1000, 0x10, true)"),
    ("Access.write", {"iova": 4096, "data": b"ab"}, 'access_write(&on1, 0x1000, "ab", 2)'),
    ("DmaBuf.poll", {"events": 1}, "buffer_poll(&on1, 1, 0)"),
    ("DmaBuf.map_cpu", {"length": 16}, "buffer_mmap(&on1, 0x10, true)"),
    ("DmaBuf.map_cpu", {"length": 16, "shared": False}, "buffer_mmap(&on1, 0x10, false)"),
    ("DmaBuf.seek", {"offset": -1, "whence": 2}, "buffer_seek(&on1, -1, 2)"),
    ("DmaBuf.set_name", {"name": b"x"}, 'buffer_set_name(&on1, "x")'),
    ("dmabuf.OtherFile", {"kind": "memfd"}, 'other_file(&out1, "memfd")'),
    ("Timeline.fence", {}, "timeline_fence(&on1, &out1, 1)"),
    ("Device.feature", {"flags": 65539, "payload": b"\0\1"}, r'device_feature(&on1, 0x10003, "\x00\x01", 2)'),
    (
        "Device.loads_during",
        {"reset": "flr", "region": 0, "page": 0, "offset": 8},
        "device_loads_during(&on1, device_flr, 0, 0, 8)",
    ),
    ("Device.read", {"region": 0, "offset": 16, "length": 8}, "device_load(&on1, 0, 0x10, 8)"),
    ("Device.read", {"region": 0, "offset": 16, "length": 9}, "device_digest(&on1, 0, 0x10, 9)"),
    ("IovaWindow.read", {"offset": 0, "length": 100}, "window_digest(&on1, 0, 0x64)"),
    ("NvmeEngine.dma_read", {"iova": 4096, "length": 4}, "engine_load(&on1.engine, 0x1000, 4)"),
    ("Nvme.data", {"length": 4}, "nvme_data(&on1, 4)"),
    (
        "pci.lose_config",
        {"bdf": "0000:01:00.0", "command": True, "bars": False},
        'lose_config("0000:01:00.0", true, false)',
    ),
    ("Process.send", {"file": "buffer1"}, "send_file(on1.files, buffer1.fd)"),
    ("processes.set_file_limit", {"limit": 9}, 'set_file_limit("9")'),
]


@pytest.mark.parametrize(("name", "values", "code"), CODE)
def test_code(name: str, values: dict[str, Any], code: str) -> None:
    on, _, do = name.partition(".")
    assert CALLS[on, do].code(Arguments("on1", "out1", values)) == code


def test_long_data_goes_in_parts() -> None:
    row = CALLS["IovaWindow", "write"]
    arguments = Arguments("on1", "", {"offset": 0, "data": bytes(range(50))})
    first, *lines = row.before(arguments)
    name = first.split("[")[0].removeprefix("static const char ")
    assert row.code(arguments) == f"window_write_long(&on1, 0, {name}, 50)"
    assert "".join(line.strip().strip(';"') for line in lines) == "".join(f"\\x{byte:02x}" for byte in range(50))


def test_the_values_of_loads_are_one_number() -> None:
    value = CALLS["Device", "loads_during"].value
    assert value
    assert value([1, 2]) == fnv1a(struct.pack("<II", 1, 2))
    assert value([1]) != value([1, 2])


def test_an_argsz_of_its_own() -> None:
    with pytest.raises(UsageError, match="argsz"):
        CALLS["Device", "feature"].code(Arguments("on1", "", {"flags": 1, "argsz": 4}))


def test_a_device_that_is_not_pci() -> None:
    values = {"bdf": None, "dmabuf": 3, "static": False, "peer2peer": True, "callback": False, "remap": False}
    code = CALLS["importer", "Attachment"].code(Arguments("", "out1", {**values, "unlocked": False, "delay_ms": 0}))
    assert code == 'attach(&out1, "0", 3, IMPORTER_PEER2PEER | IMPORTER_NOT_PCI, 0)'
