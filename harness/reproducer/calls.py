# SPDX-License-Identifier: GPL-2.0-only
"""The calls of the agent that a C program can repeat, each with the C function that does the same.

A row is named like the call: the service or the class of its object, and the function. The class of a result is the
first word of ``makes``. A call without a row is one that no program can repeat; ``SKIPPED`` are those that it need not.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any

from harness.errors import UsageError
from harness.reproducer.rdma_calls import RDMA_CALLS
from harness.reproducer.row import LINE, Arguments, Row, data, declare_data, literal, load, number, simple

SKIPPED = frozenset({"references", "rpc", "gcov", "fail_nth", "stimuli", "klog", "page_table", "leaks"})
"""Services that only observe, or end the case."""
SKIPPED_CALLS = frozenset(
    {
        ("DmaBuf", "size"),
        ("pci", "translated"),
        ("UserMemory", "read"),
        ("Attachment", "log"),
        ("feature_request", "bars"),
        ("dmabuf", "bufinfo"),
        ("DmaBuf", "fdinfo"),
        ("DmaBuf", "inode"),
        ("NvmeEngine", "close"),
        ("DmaApiEdu", "close"),
        ("DmaApiNvme", "close"),
        ("EduEngine", "close"),
        ("Rxe", "memory"),
        ("Rxe", "listed"),
        ("MrWindow", "unmapped"),
        ("MrWindow", "iova"),
        ("MrWindow", "key"),
        ("LocalWindow", "close"),
    }
)
"""Calls that only observe, and whose result no program needs; or that end what its end ends."""

OBSERVING = frozenset(
    {
        ("page_table", "entries"),
        ("dmabuf", "bufinfo"),
        ("DmaBuf", "fdinfo"),
        ("DmaBuf", "inode"),
        ("leaks", "scan"),
        ("MrWindow", "key"),
        ("Rxe", "listed"),
    }
)
"""Those of them whose result may be what is wrong. A program does not judge by it."""

FILLED = 16
"""More equal bytes are a call that fills."""

C_TYPES = {
    "Iommufd": "struct iommufd iommufd",
    "Ioas": "struct space space",
    "Device": "struct device device",
    "DmaBuf": "struct buffer buffer",
    "Nvme": "struct nvme nvme",
    "NvmeEngine": "struct nvme_engine importer",
    "EduEngine": "struct edu_engine importer",
    "DmaApiEdu": "struct dma_api_edu importer",
    "DmaApiNvme": "struct nvme_engine importer",
    "Rxe": "struct rxe importer",
    "IovaWindow": "struct window window",
    "DmaApiWindow": "struct window window",
    "MrWindow": "struct rdma_region window",
    "LocalWindow": "struct rdma_region window",
    "ProtectionDomain": "struct rdma_domain protection",
    "Attachment": "struct attachment attachment",
    "Domain": "struct domain domain",
    "UserMemory": "struct user_memory memory",
}
"""The C type of each class, and the name of its variables."""


def _ranges(arguments: Arguments) -> list[tuple[int, int]]:
    """Return the ranges of an export in mainline's layout (harness/session/export.py)."""
    payload = arguments.values["payload"]
    (count,) = struct.unpack_from("<I", payload, 12)
    return [struct.unpack_from("<QQ", payload, 16 + 16 * index) for index in range(count)]


def _export(arguments: Arguments) -> str:
    (region,) = struct.unpack_from("<I", arguments.values["payload"])
    return f"device_export(&{arguments.on}, &{arguments.out}, {region}, {_ranges_name(arguments)}, {_count(arguments)})"


def _count(arguments: Arguments) -> str:
    ranges = _ranges(arguments)
    return f"{len(ranges)}" if _repeated(ranges) else f"ARRAY_SIZE({_ranges_name(arguments)})"


def _repeated(ranges: Sequence[tuple[int, int]]) -> bool:
    return len(ranges) > 4 and len(set(ranges)) == 1


def _ranges_name(arguments: Arguments) -> str:
    return f"ranges_of_{arguments.out}"


def _declare_ranges(arguments: Arguments) -> list[str]:
    ranges, name = _ranges(arguments), _ranges_name(arguments)
    rows = [f"{{ {number(offset)}, {number(length)} }}," for offset, length in ranges]
    if _repeated(ranges):
        rows = [f"[0 ... {len(ranges) - 1}] = {rows[0]}"]
    return [f"static const struct vfio_region_dma_range {name}[] = {{", *(f"\t{row}" for row in rows), "};"]


def _attach(arguments: Arguments) -> str:
    chosen = {
        "IMPORTER_PEER2PEER": arguments.values["peer2peer"],
        "IMPORTER_CALLBACK": arguments.values["callback"],
        "IMPORTER_REMAP": arguments.values["remap"],
        "IMPORTER_UNLOCKED": arguments.values["unlocked"],
    }
    flags = " | ".join(name for name, on in chosen.items() if on) or "0"
    if arguments.values["static"]:
        flags = "IMPORTER_STATIC"
    buffer, delay = arguments.values["dmabuf"], arguments.number("delay_ms")
    return f"attach(&{arguments.out}, {arguments.text('bdf')}, {buffer}.fd, {flags}, {delay})"


def _engine(arguments: Arguments) -> str:
    return f"&{arguments.on}.engine"


def _import(function: str) -> Callable[[Arguments], str]:
    return lambda a: f"{function}(&{a.out}, {_engine(a)}, {a.at('dmabuf')}, {a.number('start')}, {a.number('length')})"


def _on_bdf(function: str, *names: str) -> Callable[[Arguments], str]:
    """Return a call with a device's address, and with these texts."""
    return lambda a: f"{function}({', '.join([a.text('bdf'), *(a.text(name) for name in names)])})"


def _state(state: Any) -> int | None:
    return {"D0": 0, "D1": 1, "D2": 2, "D3hot": 3}.get(state)


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _window_write(arguments: Arguments) -> str:
    """Write bytes by commands of the importer, which moves up to a page at once."""
    length = len(arguments.values["data"])
    function = "window_write" if length <= LINE else "window_write_long"
    return f"{function}(&{arguments.on}, {arguments.number('offset')}, {data(arguments, 'data')}, {length})"


def _write(arguments: Arguments) -> str:
    """Write bytes, or the same byte many times."""
    value: bytes = arguments.values["data"]
    where = f"&{arguments.on}, {arguments.number('region')}, {arguments.number('offset')}"
    if _fills(value):
        return f"device_fill({where}, {number(value[0])}, {number(len(value))})"
    return f"device_write({where}, {data(arguments, 'data')}, {len(value)})"


def _fills(value: bytes) -> bool:
    return len(value) > FILLED and len(set(value)) == 1


def _declare_written(arguments: Arguments) -> list[str]:
    return [] if _fills(arguments.values["data"]) else declare_data("data")(arguments)


def _token(arguments: Arguments) -> str:
    token = arguments.values.get("token")
    return literal(token) if token else "NULL"


def _after(arguments: Arguments) -> str:
    functions = {"reset": "device_reset", "revoke": "device_revoke", "flr": "device_flr"}
    act = functions[arguments.values["do"]]
    offset, value = arguments.number("offset"), arguments.number("value")
    return f"window_store32_after(&{arguments.on}, {offset}, {value}, {act}, {arguments.at('on')})"


def _area(arguments: Arguments) -> str:
    return (
        f"window_at(&{arguments.out}, {_engine(arguments)}, {arguments.number('iova')}, {arguments.number('length')})"
    )


def _window(arguments: Arguments) -> str:
    place = f"{arguments.number('start')}, {arguments.number('length')}"
    return f"window_of(&{arguments.out}, {_engine(arguments)}, {arguments.at('attachment')}, {place})"


def _modify_config(arguments: Arguments) -> str:
    numbers = ", ".join(arguments.number(name) for name in ("before", "length", "clear", "value"))
    return f"modify_config(&{arguments.on}, {arguments.text('register')}, {numbers})"


def _raw_feature(arguments: Arguments) -> str:
    """Return the call of one request, all of whose bytes can be read."""
    requests = arguments.values["requests"]
    if len(requests) != 1 or arguments.values.get("times", 1) != 1 or requests[0][1] is not None:
        raise UsageError("no C program can repeat feature_request.request of several requests, or of half a request")
    return f"raw_feature({arguments.at('device')}, {literal(requests[0][0])}, {len(requests[0][0])})"


CALLS: dict[tuple[str, str], Row] = {
    **RDMA_CALLS,
    ("pci", "bind"): Row(_on_bdf("pci_bind", "name")),
    ("pci", "unbind"): Row(_on_bdf("pci_unbind")),
    ("pci", "reset"): Row(_on_bdf("pci_reset")),
    ("pci", "set_reset_methods"): Row(_on_bdf("pci_set_reset_methods", "methods")),
    ("pci", "power_state"): Row(_on_bdf("pci_power_state"), value=_state),
    ("pci", "suspended"): Row(lambda a: f"pci_suspended({a.text('bdf')}, 5000)", value=int),
    ("pci", "VirtualFunctions"): Row(lambda a: f'pci_enable_vfs({a.text("bdf")}, "{a.values["count"]}")', "Functions"),
    ("iommufd", "Iommufd"): Row(lambda a: f"iommufd_open(&{a.out})", "Iommufd"),
    ("iommufd", "Domain"): Row(
        lambda a: (
            f"domain_alloc(&{a.out}, {a.at('device')}, "
            f"{a.at('space') if a.values['space'] else a.values['device'] + '.space'}, {a.number('flags')})"
        ),
        "Domain",
    ),
    ("Iommufd", "ioas"): Row(lambda a: f"ioas_alloc(&{a.out}, &{a.on})", "Ioas"),
    ("Ioas", "map_file"): Row(
        lambda a: (
            f"ioas_map_file(&{a.on}, {a.values['dmabuf']}.fd, {a.number('start')}, {a.number('length')}, "
            f"{a.number('flags')}, {a.iova('iova')})"
        ),
        imports=True,
    ),
    ("Ioas", "copy"): Row(
        lambda a: (
            f"ioas_copy(&{a.on}, {a.at('source')}, {a.number('source_iova')}, {a.number('length')}, "
            f"{a.number('flags')}, {a.iova('iova')})"
        ),
        imports=True,
    ),
    ("Ioas", "close"): Row(simple("ioas_destroy")),
    ("Iommufd", "close"): Row(simple("iommufd_close")),
    ("Ioas", "set_huge_pages"): Row(simple("ioas_set_huge_pages", "on")),
    ("Ioas", "unmap"): Row(simple("ioas_unmap", "iova", "length")),
    ("Domain", "enter"): Row(simple("domain_enter")),
    ("vfio", "open_cdev"): Row(
        lambda a: f"device_open(&{a.out}, {a.text('bdf')}, {a.at('space')}, {_token(a)})", "Device"
    ),
    ("Device", "close"): Row(simple("device_close")),
    ("Device", "reset"): Row(simple("device_reset")),
    ("Device", "hot_reset"): Row(simple("device_hot_reset")),
    ("Device", "flr"): Row(simple("device_flr")),
    ("Device", "set_memory"): Row(simple("device_set_memory", "on")),
    ("Device", "set_master"): Row(simple("device_set_master", "on")),
    ("Device", "set_power_state"): Row(simple("device_set_power_state", "state")),
    ("Device", "command"): Row(simple("device_command")),
    ("Device", "low_power_entry"): Row(simple("low_power_entry")),
    ("Device", "low_power_exit"): Row(simple("low_power_exit")),
    ("Device", "low_power_entry_with_wakeup"): Row(simple("low_power_entry_with_wakeup")),
    ("Device", "woken"): Row(simple("device_woken"), value=int),
    ("Device", "attach"): Row(lambda a: f"device_enter(&{a.on}, {a.on}.space->id)"),
    ("Device", "detach"): Row(simple("device_leave")),
    ("Device", "export"): Row(_export, "DmaBuf", before=_declare_ranges),
    ("Device", "read"): load("device_load", "device_digest", "region"),
    ("Device", "write"): Row(_write, before=_declare_written),
    ("Device", "modify_config"): Row(_modify_config),
    ("feature_request", "request"): Row(_raw_feature, value=lambda outcomes: outcomes[-1]),
    ("DmaBuf", "dup"): Row(lambda a: f"buffer_dup(&{a.out}, &{a.on})", "DmaBuf"),
    ("DmaBuf", "close"): Row(simple("buffer_close")),
    ("nvme", "Controller"): Row(lambda a: f"nvme_init(&{a.out}, {a.at('device')})", "Nvme"),
    ("Nvme", "start"): Row(simple("nvme_start")),
    ("Nvme", "cmb"): Row(simple("nvme_enable_cmb")),
    ("Nvme", "submit_identify"): Row(simple("nvme_queue_identify")),
    ("Nvme", "completed"): Row(
        lambda a: f"nvme_completed(&{a.on}, {a.number('cid')}, {max(1000, _milliseconds(a.values['seconds']))})",
        value=lambda completion: int(completion is not None),
    ),
    ("nvme", "NvmeEngine"): Row(lambda a: f"nvme_engine_start(&{a.out}, {a.at('device')})", "NvmeEngine"),
    ("edu", "EduEngine"): Row(lambda a: f"edu_engine_start(&{a.out}, {a.at('device')})", "EduEngine"),
    ("importer", "open_edu"): Row(lambda a: f"edu_start_by_dma_api(&{a.out}, {a.text('bdf')})", "DmaApiEdu"),
    ("dma_api_nvme", "open_nvme"): Row(
        lambda a: f"nvme_engine_start_by_dma_api(&{a.out}, {a.text('bdf')})", "DmaApiNvme"
    ),
    ("NvmeEngine", "attach"): Row(_import("import"), "IovaWindow", imports=True),
    ("EduEngine", "attach"): Row(_import("import"), "IovaWindow", imports=True),
    ("DmaApiEdu", "attach"): Row(_import("import_by_dma_api"), "DmaApiWindow", imports=True),
    ("DmaApiNvme", "attach"): Row(_import("import_by_dma_api"), "DmaApiWindow", imports=True),
    ("NvmeEngine", "copy"): Row(
        lambda a: f"import_copy(&{a.out}, {_engine(a)}, {a.at('source')}, {a.number('iova')}, {a.number('length')})",
        "IovaWindow",
        imports=True,
    ),
    ("DmaApiEdu", "window"): Row(_window, "DmaApiWindow"),
    ("DmaApiNvme", "window"): Row(_window, "DmaApiWindow"),
    ("NvmeEngine", "area"): Row(_area, "IovaWindow"),
    ("EduEngine", "area"): Row(_area, "IovaWindow"),
    ("IovaWindow", "close"): Row(simple("window_close")),
    ("DmaApiWindow", "close"): Row(simple("window_detach")),
    **{
        (window, do): row
        for window in ("IovaWindow", "DmaApiWindow")
        for do, row in {
            "store32": Row(simple("window_store32", "offset", "value")),
            "store32_after": Row(_after),
            "write": Row(_window_write, before=declare_data("data")),
            "read": load("window_load", "window_digest"),
            "iova": Row(lambda a: ""),
            "unmapped": Row(lambda a: ""),
        }.items()
    },
    ("importer", "Attachment"): Row(_attach, "Attachment"),
    ("Attachment", "map"): Row(simple("map"), imports=True),
    ("Attachment", "unmap"): Row(simple("unmap")),
    ("Attachment", "close"): Row(simple("detach")),
    ("Attachment", "pin"): Row(simple("pin")),
    ("Attachment", "unpin"): Row(simple("unpin")),
    ("Attachment", "release"): Row(simple("release")),
    ("Attachment", "fence"): Row(lambda a: f"fence(&{a.on}, DMA_RESV_USAGE_{a.values['usage'].upper()})"),
    ("Attachment", "signal"): Row(simple("signal_fence")),
    ("Attachment", "cycle"): Row(simple("map_cycle", "count")),
    ("Attachment", "mapped"): Row(simple("is_mapped"), value=int),
    ("Attachment", "wait_notified"): Row(
        lambda a: f"wait_notified(&{a.on}, {a.number('count')}, {_milliseconds(a.values['seconds'])})", value=int
    ),
    ("Attachment", "table"): Row(
        simple("first_page"),
        measure="long long",
        value=lambda table: table["entries"][0]["address"] // 4096 if table["entries"] else None,
    ),
    ("Attachment", "map_without_memory"): Row(simple("map_without_memory", "times")),
    ("feature_request", "slab"): Row(lambda a: "slab()", measure="long long", value=int),
    ("vmstat", "pins"): Row(lambda a: "pins()", measure="long long", value=int),
    ("user_memory", "UserMemory"): Row(
        lambda a: f"user_memory(&{a.out}, {a.number('pages')}, {a.number('in_file')})", "UserMemory"
    ),
    ("UserMemory", "map"): Row(
        lambda a: f"user_memory_map(&{a.on}, {a.at('space')}, {a.number('length')}, {a.number('iova')})"
    ),
    ("UserMemory", "map_without_memory"): Row(
        lambda a: f"map_memory_without_memory(&{a.on}, {a.at('space')}, {a.number('length')}, {a.number('iova')})"
    ),
}
