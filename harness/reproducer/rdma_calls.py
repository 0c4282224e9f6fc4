# SPDX-License-Identifier: GPL-2.0-only
"""The calls of rxe (harness/guest/verbs.py), each with the C function that does the same."""

from harness.errors import UsageError
from harness.reproducer.row import Arguments, Row, data, declare_data, load, number, simple

REGISTERED = ("start", "length", "iova", "access")
"""The arguments of a registration that both of its methods have."""


def _attach(arguments: Arguments) -> str:
    place = f"{arguments.number('start')}, {arguments.number('length')}"
    return f"import_by_rxe(&{arguments.out}, &{arguments.on}, {arguments.buffer('dmabuf')}, {place})"


def _register(arguments: Arguments) -> str:
    """Register an MR. UsageError for attributes of other memory."""
    given = arguments.values
    if others := sorted(given["values"].keys() - set(REGISTERED)):
        raise UsageError(f"no C program can repeat Rxe.register with {', '.join(others)}")
    members = [f".method = {given['verb'].removeprefix('UVERBS_METHOD_')}", f".fd = {arguments.fd('file')}"]
    members += [f".{name} = {number(given['values'][name])}" for name in REGISTERED if given["values"].get(name)]
    for member in ("without", "unwritable"):
        if names := given.get(member):
            members.append(f".{member} = {_bits([names] if isinstance(names, str) else names)}")
    if given.get("domain"):
        members.append(f".domain = &{given['domain']}.handle")
    return f"register_mr(&{arguments.out}, &{arguments.on}, (struct mr_arguments){{ {', '.join(members)} }})"


def _bits(names: list[str]) -> str:
    return " | ".join(f"1 << MR_{name.upper()}" for name in names)


def _write(arguments: Arguments) -> str:
    place = f"&{arguments.on}, {arguments.number('offset')}"
    return f"region_write({place}, {data(arguments, 'data')}, {len(arguments.values['data'])})"


RDMA_CALLS: dict[tuple[str, str], Row] = {
    ("verbs", "add_link"): Row(lambda a: ""),  # rxe_open() adds it
    ("verbs", "open_rxe"): Row(lambda a: f"rxe_open(&{a.out}, {a.text('bdf')})", "Rxe"),
    ("verbs", "ProtectionDomain"): Row(lambda a: f"rdma_domain(&{a.out}, {a.at('rxe')})", "ProtectionDomain"),
    ("ProtectionDomain", "deallocate"): Row(simple("rdma_domain_free")),
    ("ProtectionDomain", "close"): Row(simple("rdma_domain_free")),
    ("Rxe", "attach"): Row(_attach, "MrWindow", imports=True),
    ("Rxe", "register"): Row(_register, "MrWindow", imports=True),
    ("Rxe", "close"): Row(simple("rxe_close")),
    ("MrWindow", "close"): Row(simple("region_close")),
    ("MrWindow", "local"): Row(lambda a: f"region_local(&{a.out}, &{a.on})", "LocalWindow"),
    **{
        (window, do): row
        for window in ("MrWindow", "LocalWindow")
        for do, row in {
            "store32": Row(simple("region_store32", "offset", "value"), imports=True, status=True),
            "write": Row(_write, imports=True, status=True, before=declare_data("data")),
            "read": load("region_load", "region_digest", "offset", "length", status=True),
        }.items()
    },
}
