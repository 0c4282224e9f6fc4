# SPDX-License-Identifier: GPL-2.0-only
"""The calls of dma-bufs as files, and of other files (harness/guest/dmabuf.py, sync.py), with their C functions."""

from harness.reproducer.row import Arguments, Row, literal, number, simple


def _optional(arguments: Arguments, name: str, default: int | bool = 0) -> str:
    return number(arguments.values.get(name, default))


FILE_CALLS: dict[tuple[str, str], Row] = {
    ("DmaBuf", "status_flags"): Row(simple("buffer_status_flags"), value=int),
    ("DmaBuf", "cloexec"): Row(simple("buffer_cloexec"), value=int),
    ("DmaBuf", "mmap"): Row(lambda a: f"buffer_mmap(&{a.on}, {a.number('length')}, true)"),
    ("DmaBuf", "map_cpu"): Row(
        lambda a: f"buffer_mmap(&{a.on}, {a.number('length')}, {_optional(a, 'shared', True)})", "CpuMapping"
    ),
    ("DmaBuf", "seek"): Row(lambda a: f"buffer_seek(&{a.on}, {a.values['offset']}, {a.number('whence')})", value=int),
    ("DmaBuf", "sync"): Row(simple("buffer_sync", "flags")),
    ("DmaBuf", "set_name"): Row(lambda a: f"buffer_set_name(&{a.on}, {literal(a.values['name'])})"),
    ("DmaBuf", "poll"): Row(
        lambda a: f"buffer_poll(&{a.on}, {a.number('events')}, {_optional(a, 'milliseconds')})", value=int
    ),
    ("DmaBuf", "export_sync_file"): Row(
        lambda a: f"export_sync_file(&{a.out}, &{a.on}, {a.number('flags')})", "SyncFile"
    ),
    ("DmaBuf", "import_sync_file"): Row(lambda a: f"import_sync_file(&{a.on}, {a.number('flags')}, {a.at('file')})"),
    ("SyncFile", "signalled"): Row(lambda a: f"is_signalled(&{a.on}, {_optional(a, 'milliseconds')})", value=int),
    ("SyncFile", "close"): Row(simple("buffer_close")),
    ("sync", "Timeline"): Row(lambda a: f"timeline_open(&{a.out})", "Timeline"),
    ("Timeline", "fence"): Row(lambda a: f"timeline_fence(&{a.on}, &{a.out}, {_optional(a, 'value', 1)})", "SyncFile"),
    ("Timeline", "advance"): Row(simple("timeline_advance")),
    ("Timeline", "close"): Row(simple("timeline_close")),
    ("dmabuf", "OtherFile"): Row(lambda a: f"other_file(&{a.out}, {a.text('kind')})", "OtherFile"),
    ("OtherFile", "close"): Row(simple("buffer_close")),
    ("dmabuf", "udmabuf"): Row(lambda a: f"new_udmabuf(&{a.out}, {a.number('length')})", "DmaBuf"),
}
