# SPDX-License-Identifier: GPL-2.0-only
"""Write initramfs archives: cpio in the format "newc" (Documentation/driver-api/early-userspace/buffer-format.rst).

The kernel unpacks several in a row, so what is cached and what belongs to one run are two archives.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

_TRAILER = "TRAILER!!!"


def pack_tree(top: Path) -> bytes:
    """Return an archive of a tree of directories, files and symbolic links. root owns everything."""
    entries = {}
    for path in sorted(top.rglob("*")):
        mode = path.lstat().st_mode
        content = os.fsencode(path.readlink()) if stat.S_ISLNK(mode) else path.read_bytes() if path.is_file() else b""
        entries[str(path.relative_to(top))] = (mode, content)
    return _pack(entries)


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """Return an archive of executable files by their names, with the directories that they need."""
    entries: dict[str, tuple[int, bytes]] = {}
    for name, content in files.items():
        for parent in reversed(Path(name).parents[:-1]):
            entries[str(parent)] = (stat.S_IFDIR | 0o755, b"")
        entries[name] = (stat.S_IFREG | 0o755, content)
    return _pack(entries)


def join(*archives: bytes) -> bytes:
    """Return one file of several archives, compressed or not.

    The kernel skips zeros between them, and finds an uncompressed one only at a multiple of four bytes
    (init/initramfs.c, unpack_to_rootfs()).
    """
    return b"".join(archive + bytes(-len(archive) % 4) for archive in archives)


def _pack(entries: Mapping[str, tuple[int, bytes]]) -> bytes:
    packed = bytearray()
    for number, (name, (mode, content)) in enumerate([*entries.items(), (_TRAILER, (0, b""))], start=1):
        encoded = os.fsencode(name) + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
        packed += b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
        packed += bytes(-len(packed) % 4) + content
        packed += bytes(-len(packed) % 4)
    return bytes(packed)
