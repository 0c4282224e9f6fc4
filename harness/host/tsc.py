# SPDX-License-Identifier: GPL-2.0-only
"""The rate of the host's time stamp counter, which TCG gives to its guests as theirs (QEMU, cpu_get_host_ticks())."""

import ctypes
import mmap
import platform
import time
from collections.abc import Callable
from functools import cache

_RDTSC = bytes.fromhex("0f31 48c1e220 4809d0 c3")
"""rdtsc; shl $32,%rdx; or %rdx,%rax; ret: the counter as a C function's result. Python has no other way to read it."""
_INTERVAL_S = 0.02
_TRIES = 20


@cache
def tsc_khz() -> int | None:
    """Measure the rate in kHz, to 0.01 %. None on another processor, or where memory must not be executable."""
    if platform.machine() != "x86_64":
        return None
    try:
        memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return None
    memory.write(_RDTSC)
    read = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
    ns, ticks = _both(read)
    time.sleep(_INTERVAL_S)
    later_ns, later_ticks = _both(read)
    return (later_ticks - ticks) * 1_000_000 // (later_ns - ns)


def _both(read: Callable[[], int]) -> tuple[int, int]:
    """Return the time in ns and the counter at one moment: of several tries, that which nothing interrupted."""
    tries = []
    for _ in range(_TRIES):
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        ticks = read()
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
        tries.append((after - before, (before + after) // 2, ticks))
    return min(tries)[1:]
