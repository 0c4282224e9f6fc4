# SPDX-License-Identifier: GPL-2.0-only
"""A process keeps a file open until it is killed."""

import os
import select
from types import SimpleNamespace

from harness.guest.holder import Holder


def test_a_process_has_the_file_open_until_it_is_killed() -> None:
    reading, writing = os.pipe()
    other_reading, other_writing = os.pipe()
    process = Holder(SimpleNamespace(fd=writing))
    try:
        os.close(writing)
        os.close(other_writing)
        assert not select.select([reading], [], [], 0.1)[0], "the process has the other end open"
        assert os.read(other_reading, 1) == b"", "it has no other file open"
    finally:
        process.close()
    assert os.read(reading, 1) == b"", "the other end is closed when the process is gone"
    os.close(reading)
    os.close(other_reading)
