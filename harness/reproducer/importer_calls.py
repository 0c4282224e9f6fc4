# SPDX-License-Identifier: GPL-2.0-only
"""The calls of the test importer (harness/guest/importer.py), each with the C function that does the same."""

from harness.reproducer.row import (
    Arguments,
    Row,
    data,
    declare_data,
    fnv1a,
    milliseconds,
    number,
    simple,
)

DIRECTIONS = {"to-device": "DMA_TO_DEVICE", "from-device": "DMA_FROM_DEVICE"}


FLAGS = {
    "IMPORTER_PEER2PEER": ("peer2peer", True),
    "IMPORTER_CALLBACK": ("callback", True),
    "IMPORTER_REMAP": ("remap", False),
    "IMPORTER_UNLOCKED": ("unlocked", False),
}
"""The flags of an attachment: the arguments that set them, and their defaults."""


def _attach(arguments: Arguments) -> str:
    values = arguments.values
    chosen = [flag for flag, (name, default) in FLAGS.items() if values.get(name, default)]
    chosen += ["IMPORTER_NOT_PCI"] if values["bdf"] is None else []
    flags = "IMPORTER_STATIC" if values.get("static") else " | ".join(chosen) or "0"
    bdf = "0" if values["bdf"] is None else values["bdf"]
    delay = number(values.get("delay_ms", 0))
    return f'attach(&{arguments.out}, "{bdf}", {arguments.fd("dmabuf")}, {flags}, {delay})'


def _attach_repeatedly(arguments: Arguments) -> str:
    values = arguments.values
    flags = "IMPORTER_STATIC" if values["static"] else "IMPORTER_CALLBACK"
    if values["peer2peer"] and not values["static"]:
        flags += " | IMPORTER_PEER2PEER"
    return f"attach_repeatedly({arguments.text('bdf')}, {arguments.fd('dmabuf')}, {flags}, {arguments.number('times')})"


def _map(arguments: Arguments) -> str:
    direction = DIRECTIONS.get(arguments.values.get("direction", "both"))
    return f"map_in_direction(&{arguments.on}, {direction})" if direction else f"map(&{arguments.on})"


def _umem(arguments: Arguments) -> str:
    part = f"{arguments.number('offset')}, {arguments.number('length')}"
    kind = f"IMPORTER_UMEM_{arguments.values['kind'].upper()}"
    return (
        f"umem_get(&{arguments.out}, {arguments.text('bdf')}, {arguments.fd('file')}, {part}, {kind}, "
        f"{arguments.number('access')})"
    )


def _wait(arguments: Arguments) -> str:
    return f"wait_notified(&{arguments.on}, {arguments.number('count')}, {milliseconds(arguments.values['seconds'])})"


def _pin(arguments: Arguments) -> str:
    write = "true" if arguments.values.get("write") else "false"
    return f"access_pin(&{arguments.on}, {arguments.number('iova')}, {arguments.number('length')}, {write})"


def _write(arguments: Arguments) -> str:
    place = f"&{arguments.on}, {arguments.number('iova')}"
    return f"access_write({place}, {data(arguments, 'data')}, {len(arguments.values['data'])})"


COMMON = {
    "release": Row(simple("release")),
    "detach": Row(simple("leave_buffer")),
    "close": Row(simple("detach")),
    "wait_notified": Row(_wait, value=int),
}
"""The calls of every open file of the importer."""

IMPORTER_CALLS: dict[tuple[str, str], Row] = {
    ("importer", "Attachment"): Row(_attach, "Attachment"),
    ("importer", "Umem"): Row(_umem, "Umem", imports=True),
    ("access", "Access"): Row(
        lambda a: f"access_open(&{a.out}, {a.at('space')}, {a.values.get('delay_ms', 0)})", "Access"
    ),
    **{(kind, do): row for kind in ("Attachment", "Umem", "Access") for do, row in COMMON.items()},
    ("Attachment", "map"): Row(_map, imports=True),
    ("Attachment", "unmap"): Row(simple("unmap")),
    ("Attachment", "pin"): Row(simple("pin")),
    ("Attachment", "unpin"): Row(simple("unpin")),
    ("Attachment", "fence"): Row(lambda a: f"fence(&{a.on}, DMA_RESV_USAGE_{a.values['usage'].upper()})"),
    ("Attachment", "signal"): Row(simple("signal_fence")),
    ("Attachment", "cycle"): Row(simple("map_cycle", "count")),
    ("Attachment", "mapped"): Row(simple("is_mapped"), value=int),
    ("Attachment", "table"): Row(
        simple("first_page"),
        measure="long long",
        value=lambda table: table["entries"][0]["address"] // 4096 if table["entries"] else None,
    ),
    ("Attachment", "map_without_memory"): Row(simple("map_without_memory", "times")),
    ("importer", "attach_repeatedly"): Row(_attach_repeatedly, value=lambda errnos: errnos[-1]),
    ("Umem", "map"): Row(simple("map"), imports=True),
    ("Umem", "unmap"): Row(simple("unmap")),
    ("Umem", "revoke"): Row(simple("umem_revoke")),
    ("Access", "pin"): Row(_pin, value=fnv1a, reads=True),
    ("Access", "unpin"): Row(simple("access_unpin", "iova", "length")),
    ("Access", "read"): Row(simple("access_read", "iova", "length"), value=fnv1a, reads=True),
    ("Access", "write"): Row(_write, before=declare_data("data")),
    # generate.py writes the two calls that it makes.
    ("pause", "interleave"): Row(lambda a: "", value=int, exact=True),
}
