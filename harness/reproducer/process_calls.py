# SPDX-License-Identifier: GPL-2.0-only
"""The calls of forked processes (harness/guest/processes.py), each with the C function that does the same."""

from harness.reproducer.row import Row, milliseconds, simple

PROCESS_CALLS: dict[tuple[str, str], Row] = {
    ("rpc", "fork"): Row(lambda a: f"process_fork(&{a.out})", "Process"),
    ("Process", "kill"): Row(simple("process_kill")),
    ("Process", "ended"): Row(lambda a: f"process_ended(&{a.on}, {milliseconds(a.values['seconds'])})", value=int),
    ("Process", "close"): Row(simple("process_close")),
    ("Process", "send"): Row(lambda a: f"send_file({a.on}.files, {a.fd('file')})"),
    ("Process", "receive_dmabuf"): Row(lambda a: f"process_receive(&{a.on}, &{a.out})", "DmaBuf"),
    # Those of a process itself:
    ("processes", "send"): Row(lambda a: f"send_file(parent_files, {a.fd('file')})"),
    ("processes", "drop_privileges"): Row(lambda a: "drop_privileges()"),
    ("processes", "set_file_limit"): Row(lambda a: f'set_file_limit("{a.values["limit"]}")'),
}
