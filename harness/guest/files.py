# SPDX-License-Identifier: GPL-2.0-only
"""Files of sysfs, debugfs and procfs, by plain system calls: pathlib takes an emulated guest ten times as long."""

import os

CHUNK = 1 << 16
"""Bytes per read: the kernel makes most of these files in one piece."""


def read(path: str) -> bytes:
    """Return the content of a file. An OSError names the path if the file cannot be opened."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, CHUNK):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def read_text(path: str) -> str:
    """Return the content of a text file."""
    return read(path).decode()


def write(path: str, text: str) -> None:
    """Write to a file that exists, in one call."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def exists(path: str) -> bool:
    """Return whether there is such a file or directory, behind any symlinks."""
    return os.access(path, os.F_OK)


def target(link: str) -> str:
    """Return the last component of what a symlink points to, e.g. the name of a device's driver."""
    return os.readlink(link).rpartition("/")[2]


def names(directory: str) -> list[str]:
    """Return the names in a directory."""
    return os.listdir(directory)
