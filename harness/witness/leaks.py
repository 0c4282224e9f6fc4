# SPDX-License-Identifier: GPL-2.0-only
"""What a case left behind in the kernel: dma-bufs, module references, memory. Pure functions on the guest's text."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

MAX_LINE = 512
_HEX, _DEC = r"[0-9a-f]{1,16}", r"\d{1,20}"


@dataclass(frozen=True)
class DmaBuf:
    """One row of debugfs ``dma_buf/bufinfo`` (drivers/dma-buf/dma-buf.c, dma_buf_debug_show). ``size`` in bytes;
    ``attached`` are the importing devices' names."""

    size: int
    references: int
    exporter: str
    inode: int
    name: str
    attached: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line for the evidence."""
        to = f", attached to {', '.join(self.attached)}" if self.attached else ""
        return f"dma-buf {self.inode} of {self.exporter}: {self.size} bytes, {self.references} references{to}"


@dataclass(frozen=True)
class LeakedObject:
    """One object that kmemleak found no pointer to. ``size`` in bytes; ``frames``: who allocated it, top first;
    ``born``: when, in jiffies, None where kmemleak does not say."""

    size: int
    task: str
    frames: tuple[str, ...]
    born: int | None = None

    def __str__(self) -> str:
        """One line for the evidence."""
        return f"{self.size} bytes leaked by {self.task}, allocated in {' < '.join(self.frames[:6])}"


@dataclass(frozen=True)
class Snapshot:
    """What the kernel holds at one moment; ``modules`` maps a loaded module to its reference count."""

    buffers: tuple[DmaBuf, ...] = ()
    modules: Mapping[str, int] = field(default_factory=dict)


_BUFFER = re.compile(
    rf"(?P<size>{_DEC})\t{_HEX}\t{_HEX}\t(?P<count>{_DEC})\t(?P<exp>[^\t]*)\t(?P<ino>{_DEC})\t(?P<name>.*)"
)
_ATTACHED = re.compile(r"\t(?P<device>[^\t]{1,80})")


def parse_bufinfo(text: str) -> tuple[DmaBuf, ...]:
    """The buffers listed in ``dma_buf/bufinfo``. Other lines are passed over: a buffer's name is user text."""
    buffers: list[DmaBuf] = []
    devices: list[str] | None = None
    for line in (raw[:MAX_LINE] for raw in text.splitlines()):
        if row := _BUFFER.fullmatch(line):
            size, count, inode = int(row["size"]), int(row["count"]), int(row["ino"])
            buffers.append(DmaBuf(size, count, row["exp"], inode, row["name"]))
            devices = None
        elif buffers and line == "\tAttached Devices:":
            devices = []
        elif devices is not None and (attached := _ATTACHED.fullmatch(line)):
            devices.append(attached["device"])
            last = buffers[-1]
            buffers[-1] = DmaBuf(last.size, last.references, last.exporter, last.inode, last.name, tuple(devices))
        else:
            devices = None
    return tuple(buffers)


def parse_modules(text: str) -> dict[str, int]:
    """Reference counts from ``/proc/modules``; 0 for a module built without unloading ("-")."""
    rows = (line[:MAX_LINE].split(" ", 3) for line in text.splitlines())
    return {row[0]: int(row[2]) for row in rows if len(row) == 4 and re.fullmatch(_DEC, row[2])}


_OBJECT = re.compile(rf"unreferenced object 0x{_HEX} \(size (?P<size>{_DEC})\):")
_TASK = re.compile(rf' {{2}}comm "(?P<task>[^"]{{1,32}})", pid -?\d{{1,10}}(?:, jiffies (?P<born>{_DEC}))?')
_ALLOCATED = re.compile(r" {4}(?:\[<[0-9a-fx]{1,20}>\] )?(?P<function>[A-Za-z_][\w.]{0,100})\+0x")


def parse_kmemleak(text: str) -> list[LeakedObject]:
    """The objects in debugfs ``kmemleak`` (mm/kmemleak.c, print_unreferenced)."""
    found: list[LeakedObject] = []
    for line in (raw[:MAX_LINE] for raw in text.splitlines()):
        if row := _OBJECT.match(line):
            found.append(LeakedObject(int(row["size"]), "?", ()))
        elif found and (task := _TASK.match(line)):
            born = int(task["born"]) if task["born"] else None
            found[-1] = replace(found[-1], task=task["task"], born=born)
        elif found and (frame := _ALLOCATED.match(line)):
            found[-1] = replace(found[-1], frames=(*found[-1].frames, frame["function"]))
    return found


def left_behind(before: Snapshot, after: Snapshot, modules: Collection[str] | None = None) -> list[str]:
    """A sentence for each buffer and each module reference that ``after`` has and ``before`` had not.

    ``modules``: only these count, if given (a driver may rightly stay bound).
    """
    known = {buffer.inode for buffer in before.buffers}
    sentences = [f"left behind: {buffer}" for buffer in after.buffers if buffer.inode not in known]
    return [*sentences, *_references(before.modules, after.modules, modules)]


def _references(before: Mapping[str, int], after: Mapping[str, int], only: Collection[str] | None) -> Iterable[str]:
    for name, count in after.items():
        had = before.get(name, 0)
        if count > had and (only is None or name in only):
            yield f"left behind: module {name} has {count} references, {had} before"
