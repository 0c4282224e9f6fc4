# SPDX-License-Identifier: GPL-2.0-only
"""The calls of the agent that a C program can repeat, each with the C function that does the same.

A row is named like the call: the service or the class of its object, and the function. The class of a result is the
first word of ``makes``. A call without a row is one that no program can repeat; ``SKIPPED`` are those that it need not.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any

from harness.errors import UsageError
from harness.reproducer.file_calls import FILE_CALLS
from harness.reproducer.importer_calls import IMPORTER_CALLS
from harness.reproducer.process_calls import PROCESS_CALLS
from harness.reproducer.rdma_calls import RDMA_CALLS
from harness.reproducer.row import (
    LINE,
    Arguments,
    Row,
    data,
    declare_data,
    fnv1a,
    literal,
    load,
    milliseconds,
    number,
    on_bdf,
    read_value,
    simple,
)

SKIPPED = frozenset({"references", "rpc", "gcov", "fail_nth", "stimuli", "klog", "page_table", "leaks"})
"""Services that only observe, or end the case."""
SKIPPED_CALLS = frozenset(
    {
        ("user_memory", "locked"),
        ("DmaBuf", "size"),
        ("pci", "translated"),
        ("UserMemory", "read"),
        ("Attachment", "log"),
        ("Umem", "log"),
        ("Umem", "table"),
        ("Access", "log"),
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
        ("user_memory", "locked"),
        ("page_table", "entries"),
        ("dmabuf", "bufinfo"),
        ("DmaBuf", "fdinfo"),
        ("DmaBuf", "inode"),
        ("leaks", "scan"),
        ("MrWindow", "key"),
        ("Rxe", "listed"),
        ("Umem", "log"),
        ("Umem", "table"),
        ("Access", "log"),
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
    "OtherFile": "struct buffer file",
    "SyncFile": "struct buffer file",
    "Timeline": "struct timeline timeline",
    "Umem": "struct attachment umem",
    "Access": "struct attachment access",
    "Node": "struct device node",
    "Process": "struct process process",
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


def _map_memory(arguments: Arguments) -> str:
    start, iova = arguments.values.get("start", 0), arguments.values.get("iova")
    memory = f"&{arguments.on}, {arguments.at('space')}"
    if not start and iova is not None:
        return f"user_memory_map({memory}, {arguments.number('length')}, {number(iova)})"
    return f"user_memory_map_part({memory}, {number(start)}, {arguments.number('length')}, {arguments.iova('iova')})"


def _flags(arguments: Arguments) -> str:
    """Return the flags of a map; those of the agent by default."""
    flags = arguments.values.get("flags")
    return "IOMMU_READ_WRITE | IOMMU_IOAS_MAP_FIXED_IOVA" if flags is None else number(flags)


def _engine(arguments: Arguments) -> str:
    return f"&{arguments.on}.engine"


def _import(function: str) -> Callable[[Arguments], str]:
    return lambda a: (
        f"{function}(&{a.out}, {_engine(a)}, {a.buffer('dmabuf')}, {a.number('start')}, {a.number('length')})"
    )


def _import_by_iommufd(arguments: Arguments) -> str:
    """Import at the IOVA that later calls have (expand.py)."""
    if (iova := arguments.values.get("iova")) is None:
        return _import("import")(arguments)
    return f"{_import('import_at')(arguments).removesuffix(')')}, {number(iova)})"


def _state(state: Any) -> int | None:
    return {"D0": 0, "D1": 1, "D2": 2, "D3hot": 3}.get(state)


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


def _feature(arguments: Arguments) -> str:
    payload: bytes = arguments.values.get("payload", b"")
    if arguments.values.get("argsz") is not None:
        raise UsageError("no C program can repeat Device.feature with an argsz of its own")
    return f"device_feature(&{arguments.on}, {arguments.number('flags')}, {literal(payload)}, {len(payload)})"


def _loads_during(arguments: Arguments) -> str:
    reset = {"reset": "device_reset", "flr": "device_flr", "hot_reset": "device_hot_reset"}[arguments.values["reset"]]
    numbers = ", ".join(arguments.number(name) for name in ("region", "page", "offset"))
    return f"device_loads_during(&{arguments.on}, {reset}, {numbers})"


def _digest_of_words(words: list[int]) -> int:
    return fnv1a(b"".join(word.to_bytes(4, "little") for word in words))


_DMA_READ = load("engine_load", "engine_digest", "iova", "length", on=".engine")


def _raw_feature(arguments: Arguments) -> str:
    """Return the call of one request, all of whose bytes can be read."""
    requests = arguments.values["requests"]
    if len(requests) != 1 or arguments.values.get("times", 1) != 1 or requests[0][1] is not None:
        raise UsageError("no C program can repeat feature_request.request of several requests, or of half a request")
    return f"raw_feature({arguments.at('device')}, {literal(requests[0][0])}, {len(requests[0][0])})"


CALLS: dict[tuple[str, str], Row] = {
    **FILE_CALLS,
    **IMPORTER_CALLS,
    **PROCESS_CALLS,
    **RDMA_CALLS,
    ("pci", "bind"): Row(on_bdf("pci_bind", "name")),
    ("pci", "unbind"): Row(on_bdf("pci_unbind")),
    ("pci", "reset"): Row(on_bdf("pci_reset")),
    ("pci", "hardware_register"): Row(on_bdf("hardware_register", "name"), value=int),
    ("pci", "hardware_bars"): Row(on_bdf("hardware_bars"), value=read_value, reads=True),
    ("pci", "lose_config"): Row(lambda a: f"lose_config({a.text('bdf')}, {a.number('command')}, {a.number('bars')})"),
    ("pci", "set_reset_methods"): Row(on_bdf("pci_set_reset_methods", "methods")),
    ("pci", "power_state"): Row(on_bdf("pci_power_state"), value=_state),
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
            f"ioas_map_file(&{a.on}, {a.fd('dmabuf')}, {a.number('start')}, {a.number('length')}, "
            f"{_flags(a)}, {a.iova('iova')})"
        ),
        imports=True,
    ),
    ("Ioas", "copy"): Row(
        lambda a: (
            f"ioas_copy(&{a.on}, {a.at('source')}, {a.number('source_iova')}, {a.number('length')}, "
            f"{_flags(a)}, {a.iova('iova')})"
        ),
        imports=True,
    ),
    ("Ioas", "close"): Row(simple("ioas_destroy")),
    ("Iommufd", "close"): Row(simple("iommufd_close")),
    ("Ioas", "set_huge_pages"): Row(simple("ioas_set_huge_pages", "on")),
    ("Ioas", "unmap"): Row(simple("ioas_unmap", "iova", "length")),
    ("Ioas", "domain"): Row(lambda a: f"domain_alloc(&{a.out}, {a.at('device')}, &{a.on}, 0)", "Domain"),
    ("Ioas", "unmap_as_type1"): Row(simple("ioas_unmap_as_type1", "iova", "length"), value=int),
    ("Domain", "close"): Row(simple("domain_close")),
    ("Domain", "destroy"): Row(simple("domain_destroy")),
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
    ("Device", "register"): Row(lambda a: f"device_register(&{a.on}, {a.text('register')})", value=int),
    ("Device", "feature"): Row(_feature),
    ("Device", "loads_during"): Row(_loads_during, value=_digest_of_words),
    ("Device", "duplicate"): Row(lambda a: f"device_duplicate(&{a.out}, &{a.on})", "Node"),
    ("vfio", "open_node"): Row(lambda a: f"node_open(&{a.out}, {a.text('bdf')})", "Node"),
    ("Node", "close"): Row(simple("device_close")),
    ("Device", "export"): Row(_export, "DmaBuf", before=_declare_ranges),
    ("Device", "read"): load("device_load", "device_digest", "region", "offset", "length"),
    ("Device", "write"): Row(_write, before=_declare_written),
    ("Device", "modify_config"): Row(_modify_config),
    ("feature_request", "request"): Row(_raw_feature, value=lambda outcomes: outcomes[-1]),
    ("DmaBuf", "dup"): Row(lambda a: f"buffer_dup(&{a.out}, &{a.on})", "DmaBuf"),
    ("DmaBuf", "close"): Row(simple("buffer_close")),
    ("nvme", "Controller"): Row(lambda a: f"nvme_init(&{a.out}, {a.at('device')})", "Nvme"),
    ("Nvme", "start"): Row(simple("nvme_start")),
    ("Nvme", "cmb"): Row(simple("nvme_enable_cmb")),
    ("Nvme", "pmr"): Row(simple("nvme_enable_pmr")),
    ("Nvme", "submit_identify"): Row(simple("nvme_queue_identify")),
    ("Nvme", "completed"): Row(
        lambda a: f"nvme_completed(&{a.on}, {a.number('cid')}, {max(1000, milliseconds(a.values['seconds']))})",
        value=lambda completion: int(completion is not None),
    ),
    ("Nvme", "data"): load("nvme_data", "nvme_data_digest", "length"),
    **{(engine, "dma_read"): _DMA_READ for engine in ("NvmeEngine", "EduEngine")},
    ("nvme", "NvmeEngine"): Row(lambda a: f"nvme_engine_start(&{a.out}, {a.at('device')})", "NvmeEngine"),
    ("edu", "EduEngine"): Row(lambda a: f"edu_engine_start(&{a.out}, {a.at('device')})", "EduEngine"),
    ("importer", "open_edu"): Row(lambda a: f"edu_start_by_dma_api(&{a.out}, {a.text('bdf')})", "DmaApiEdu"),
    ("dma_api_nvme", "open_nvme"): Row(
        lambda a: f"nvme_engine_start_by_dma_api(&{a.out}, {a.text('bdf')})", "DmaApiNvme"
    ),
    ("NvmeEngine", "attach"): Row(_import_by_iommufd, "IovaWindow", imports=True),
    ("EduEngine", "attach"): Row(_import_by_iommufd, "IovaWindow", imports=True),
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
            "read": load("window_load", "window_digest", "offset", "length"),
            "iova": Row(lambda a: ""),
            "unmapped": Row(lambda a: ""),
        }.items()
    },
    ("feature_request", "slab"): Row(lambda a: "slab()", measure="long long", value=int),
    ("vmstat", "pins"): Row(lambda a: "pins()", measure="long long", value=int),
    ("user_memory", "UserMemory"): Row(
        lambda a: f"user_memory(&{a.out}, {a.number('pages')}, {number(a.values.get('in_file', False))})", "UserMemory"
    ),
    ("UserMemory", "map"): Row(_map_memory),
    ("UserMemory", "split"): Row(lambda a: f"user_memory_split(&{a.on}, {a.at('space')}, {a.number('times')})"),
    ("UserMemory", "forbid"): Row(simple("user_memory_forbid", "start")),
    ("user_memory", "limit"): Row(lambda a: f"limit_memory({a.number('pages')}, {a.number('uid')})"),
    ("dmabuf", "must_list"): Row(lambda a: f"must_list_buffer({a.number('files')})"),
    ("Iommufd", "change_process"): Row(
        lambda a: f"iommufd_change_process(&{a.on}, {number(a.values.get('reserved', 0))})"
    ),
    ("repeat", "call"): Row(lambda a: "", value=lambda _: 0),  # generate.py writes the call that it makes
    ("UserMemory", "map_without_memory"): Row(
        lambda a: f"map_memory_without_memory(&{a.on}, {a.at('space')}, {a.number('length')}, {a.number('iova')})"
    ),
}
