# SPDX-License-Identifier: GPL-2.0-only
"""List the forms of the kernel's reports, one row each, in the kernel's own words (Linux 6.1 to 7.3).

Patterns match at the start of a line that is cut to ``MAX_LINE`` characters. They contain no nested repetition, because
the text comes from the guest.
"""

import re
from dataclasses import dataclass

MAX_LINE = 512

_AT = r"(?P<where>\S+:\d+)"
_SYMBOL = r"(?P<function>[\w.]+)\+0x"


@dataclass(frozen=True)
class Format:
    """One form of report."""

    kind: str
    first: re.Pattern[str]
    """Its first line."""
    title: str
    """A template, filled from the groups of ``first``. ``{culprit}`` is the function to look at: the group
    ``function``, or that of the RIP line, or the first frame of the trace that is not plumbing."""
    last: re.Pattern[str]
    """Its last line, which is part of it."""
    after: re.Pattern[str] | None = None
    """A line that may follow the last one, and is part of it."""
    absorbs: frozenset[str] = frozenset()
    """Kinds that are part of this report when they appear inside it."""
    max_lines: int = 200
    """Where a report ends whose last line was never printed."""


_END_TRACE = re.compile(r"---\[ end trace")
_END_STACK = re.compile(r" ?</TASK>")
_END_KASAN = re.compile(r"={60,}$")
_END_PANIC = re.compile(r"---\[ end Kernel panic|Rebooting in ")
_OOPS = frozenset({"oops", "gpf"})

# Order matters: the first row that matches a line decides its kind.
FORMATS = (
    Format("warning", re.compile(rf"WARNING: {_AT} at {_SYMBOL}"), "WARNING in {culprit} at {where}", _END_TRACE),
    # Without CONFIG_DEBUG_BUGVERBOSE there is no file and line.
    Format("warning", re.compile(rf"WARNING: at {_SYMBOL}"), "WARNING in {culprit}", _END_TRACE),
    # Up to 6.18: "WARNING: CPU: 0 PID: 1 at file:line function+0x..."
    Format(
        "warning",
        re.compile(rf"WARNING: CPU: \d+ PID: \d+ at {_AT} {_SYMBOL}"),
        "WARNING in {culprit} at {where}",
        _END_TRACE,
    ),
    Format("bug", re.compile(rf"kernel BUG at {_AT}!"), "BUG in {culprit} at {where}", _END_TRACE, absorbs=_OOPS),
    Format(
        "null",
        re.compile(r"BUG: kernel NULL pointer dereference, address: (?P<address>\w+)"),
        "NULL pointer dereference in {culprit}",
        _END_TRACE,
        absorbs=_OOPS,
    ),
    Format(
        "pagefault",
        re.compile(r"BUG: unable to handle page fault for address: (?P<address>\w+)"),
        "bad memory access in {culprit}",
        _END_TRACE,
        absorbs=_OOPS,
    ),
    Format(
        "gpf",
        re.compile(r"(?:Oops: )?general protection fault\b"),
        "general protection fault in {culprit}",
        _END_TRACE,
    ),
    Format(
        "kasan", re.compile(rf"BUG: KASAN: (?P<what>[\w-]+) in {_SYMBOL}"), "KASAN: {what} in {culprit}", _END_KASAN
    ),
    Format("kasan", re.compile(r"BUG: KASAN: (?P<what>[\w-]+)"), "KASAN: {what} in {culprit}", _END_KASAN),
    Format(
        "kcsan",
        re.compile(r"BUG: KCSAN: (?P<what>[\w-]+) in (?P<function>\w+)"),
        "KCSAN: {what} in {culprit}",
        _END_KASAN,
    ),
    Format("ubsan", re.compile(r"UBSAN: (?P<what>[\w-]+) in (?P<where>\S+)"), "UBSAN: {what} at {where}", _END_TRACE),
    Format(
        "hung-task",
        re.compile(r"INFO: task (?P<task>.{1,15}):\d+ blocked (?:in I/O wait )?for more than \d+ seconds"),
        "task {task} hung in {culprit}",
        _END_STACK,
        after=re.compile(r"INFO: task .{1,15}:\d+ (?:<\w+> )?(?:is )?blocked on an? "),
    ),
    Format(
        "soft-lockup",
        re.compile(r"(?:watchdog: )?BUG: soft lockup - CPU#\d+ stuck for \d+s! \[(?P<task>[^\]]{1,40})"),
        "soft lockup in {culprit}",
        _END_STACK,
    ),
    Format(
        "hard-lockup",
        re.compile(r"(?:NMI )?(?:watchdog: )?(?:CPU\d+: )?Watchdog detected hard LOCKUP on cpu"),
        "hard lockup in {culprit}",
        _END_STACK,
    ),
    Format("workqueue", re.compile(r"BUG: workqueue lockup"), "workqueue lockup", _END_STACK, max_lines=60),
    Format(
        "rcu-stall",
        re.compile(
            r"(?:rcu: )?INFO: (?P<flavour>\w+) (?P<what>self-detected stall on CPU|detected stalls on CPUs/tasks)"
        ),
        "RCU stall in {culprit}",
        _END_STACK,
    ),
    Format(
        "atomic",
        re.compile(rf"BUG: sleeping function called from invalid context at {_AT}"),
        "sleeping function called from invalid context at {where}, in {culprit}",
        _END_STACK,
    ),
    Format("atomic", re.compile(r"BUG: scheduling while atomic"), "scheduling while atomic in {culprit}", _END_STACK),
    Format("slab", re.compile(r"BUG (?P<cache>\S+) \([^)]*\): (?P<what>.{1,80})"), "slab {cache}: {what}", _END_STACK),
    Format(
        "netdevice",
        re.compile(r"unregister_netdevice: waiting for (?P<device>\S{1,15}) to become free"),
        "a reference to netdevice {device} leaked",
        _END_STACK,
        max_lines=1,
    ),
    Format(
        "oops",
        re.compile(r"(?:Oops: |PANIC: |stack guard page was hit|kernel stack overflow)"),
        "Oops in {culprit}",
        _END_TRACE,
    ),
    Format(
        "panic",
        # A guest out of memory is excluded: harness/vm/exit_cause.py makes that an ERROR.
        re.compile(r"Kernel panic - not syncing: (?!System is deadlocked on memory)(?P<what>.{1,160})"),
        "panic: {what}",
        _END_PANIC,
        absorbs=frozenset({"warning", "bug", "other"}),
    ),
    Format("other", re.compile(r"BUG: (?P<what>.{1,120})"), "BUG: {what}", _END_STACK, max_lines=60),
)

# lockdep begins each of its twenty reports with a rule, "=====", then "WARNING: what" or "[ BUG: what ]".
RULE = re.compile(r"={20,}$")
LOCKDEP = Format(
    "lockdep",
    re.compile(r"(?:WARNING: |\[ BUG: )(?P<what>[A-Za-z][^\]!]{1,120})"),
    "lockdep: {what} in {culprit}",
    _END_STACK,
)

# Several reports come as a WARN. The message between "cut here" and "WARNING:" distinguishes them.
CUT_HERE = re.compile(r"-{12}\[ cut here \]-{12}")
MESSAGES = (
    ("refcount", re.compile(r"refcount_t: (?P<what>.{1,80}?)\.?$"), "refcount_t: {what} in {culprit}"),
    ("list", re.compile(r"(?P<what>list_(?:add|del)(?: double add| corruption))\b"), "{what} in {culprit}"),
    ("dma-api", re.compile(r"DMA-API: (?P<device>.{1,60}?): (?P<what>[^\[]{1,120})"), "DMA-API: {what} in {culprit}"),
    ("odebug", re.compile(r"ODEBUG: (?P<what>[^:]{1,60})"), "ODEBUG: {what} in {culprit}"),
)

# Frames that report, sleep or lock on behalf of their caller: the next frame up is the one to look at.
_PLUMBING_PREFIXES = (
    *("dump_stack", "print_", "report_", "warn", "panic", "vpanic", "err_printk"),
    *(
        "kasan_",
        "asan_",
        "ubsan_",
        "handle_shift",
        "handle_out_of",
        "check_slab",
        "kfree",
        "kvfree",
        "kmalloc",
        "kmem_cache",
    ),
    *("slab_", "debug_check", "debug_mutex", "refcount_warn", "list_add", "list_del"),
    *("lock_", "lockdep_", "mark_lock", "validate_chain", "check_noncircular", "check_prev", "might_"),
    *("check_unmap", "check_sync", "check_for", "debug_dma", "dma_map", "dma_unmap"),
    *("schedule", "io_schedule", "msleep", "wait_for_", "do_wait_for", "dma_fence_", "dma_resv_"),
    *("mutex_", "ww_mutex_", "rt_mutex_", "down_", "up_", "rwsem_", "raw_", "do_raw_", "queued_", "native_"),
    *("delay_", "const_udelay", "delay", "udelay", "cpu_relax", "watchdog_", "rcu_sched", "rcu_check", "rcu_dump"),
    *("asm_", "exc_", "sysvec_"),
)
PLUMBING = re.compile(rf"_*(?:{'|'.join(_PLUMBING_PREFIXES)})\w*(?:\.\w+)*")
