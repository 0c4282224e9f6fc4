# SPDX-License-Identifier: GPL-2.0-only
"""Find out why a guest no longer answers, from its kernel over the serial line, or from QEMU."""

import os
import re

from harness.errors import GuestLost, HarnessError
from harness.vm.console import Console
from harness.vm.qmp import Qmp

SYSRQ = {"w": b"sysrq: Show Blocked State", "l": b"sysrq: Show backtrace"}
"""Keys, and the first line of the kernel's answer: the blocked tasks, and what each CPU runs."""
QUIET_S = 0.3
ANSWER_S = 3.0
REPORT = 32 * 1024


def stacks(qmp: Qmp, console: Console) -> list[str]:
    """Return notes on a guest that hangs: QEMU's run state, then the kernel's own report or each vCPU's registers.

    Never raises: a note says what could not be read. Takes a few seconds, and returns at most 32 KiB.
    """
    notes = []
    try:
        state = qmp.execute("query-status", timeout=ANSWER_S)["status"]
        notes.append(f"QEMU's run state: {state}")
        report = _sysrq(qmp, console) if state == "running" else None
        notes.append(report or _registers(qmp))
    except (HarnessError, GuestLost) as error:
        notes.append(f"no stacks: {error}")
    return notes


def _sysrq(qmp: Qmp, console: Console) -> str | None:
    """Send sysrq keys (CONFIG_MAGIC_SYSRQ_SERIAL: a break, then a key); None if the kernel does not answer.

    The 8250 driver loses a break that comes while it prints.
    """
    mark = console.mark()
    reader, writer = os.pipe()
    try:
        _give_input(qmp, console, reader)
        for key, answer in SYSRQ.items():
            qmp.execute("chardev-send-break", {"id": "console"}, timeout=ANSWER_S)
            os.write(writer, key.encode())
            console.wait_for(answer, timeout=ANSWER_S, since=mark)
            console.wait_quiet(QUIET_S, timeout=ANSWER_S)
    except TimeoutError as error:
        if console.mark() == mark:
            return None
        return f"{console.since(mark, REPORT)}\n({error})"
    finally:
        os.close(reader)
        os.close(writer)
    return console.since(mark, REPORT)


def _give_input(qmp: Qmp, console: Console, reader: int) -> None:
    """Connect a pipe to the console's input. (QEMU 7.2 takes no ``input-path`` on its command line.)"""
    file = {"out": str(console.path), "append": True, "in": f"/proc/{os.getpid()}/fd/{reader}"}
    change = {"id": "console", "backend": {"type": "file", "data": file}}
    qmp.execute("chardev-change", change, timeout=ANSWER_S)


def _registers(qmp: Qmp) -> str:
    """Return each vCPU's RIP or PC, sampled once: that of a stuck guest does not move."""
    dump = qmp.monitor("info registers -a", timeout=ANSWER_S)
    lines = re.findall(r"^(?:CPU#\d+|RIP=\w+.*?|.*\bHLT=\d| *PC=\w+)(?= X00=|\s*$)", dump, re.MULTILINE)
    return "the guest's kernel does not answer sysrq; its vCPUs:\n" + "\n".join(lines)[:REPORT]
