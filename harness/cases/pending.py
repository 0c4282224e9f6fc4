# SPDX-License-Identifier: GPL-2.0-only
"""Find out which pending changes (vm-configs/contract.yaml) the kernel under test has, by its behaviour.

A probe asks for what a change adds, and never only for what it takes away. So a kernel that has merely lost a check
does not have the change: the row ``until`` it judges that kernel, and fails.
"""

from collections.abc import Callable, Iterable, Mapping

from harness.cases.constants import PAGE
from harness.cases.contract import Contract, Row
from harness.cases.must import must
from harness.errors import KernelErrno
from harness.session import Session

Probe = Callable[[Session], bool | None]
"""Returns whether the kernel has a change; None if it may have it, but this machine cannot show that it works."""


def has_mmap(session: Session) -> bool:
    """Return whether mmap of an export shows the BAR, and a revoke takes the page away."""
    device = session.open_nvme().device
    try:
        mapping = device.export(0, [(0, PAGE)]).map_cpu(PAGE)
        shown = mapping.load(0, 8) == device.read(0, 0, 8)  # CAP, which is not 0
        device.set_memory(False)
    except KernelErrno:
        return False
    try:
        mapping.load(0, 8)
    except KernelErrno:
        return shown
    return False


def has_iommufd_ranges(session: Session) -> bool | None:
    """Return whether a device reads two ranges of one buffer, which are not neighbours, at neighbouring IOVAs."""
    nvme = session.open_nvme()
    cmb = nvme.cmb()
    for page in range(3):
        nvme.device.write(cmb.region, cmb.offset + page * PAGE, bytes([page + 1] * 8))
    buffer = nvme.device.export(cmb.region, [(cmb.offset + page * PAGE, PAGE) for page in (2, 0)])
    try:
        if "iommufd" in session.machine.config.lacks:
            session.ioas().map_file(buffer)
            return None
        window = session.importer("iommufd+nvme").attach(buffer)
    except KernelErrno:
        return False
    return window.read(0, 8) == b"\3" * 8 and window.read(PAGE, 8) == b"\1" * 8


PROBES: Mapping[str, Probe] = {"mmap": has_mmap, "iommufd-ranges": has_iommufd_ranges}
"""By the change's name in vm-configs/contract.yaml."""


class PendingChanges:
    """The pending changes that the kernel under test has. Each is probed once, for the first case that it concerns."""

    def __init__(self, contract: Contract, probes: Mapping[str, Probe] = PROBES) -> None:
        self._contract = contract
        self._probes = probes
        self._found: dict[str, bool | None] = {}

    def not_in_force(self, rows: Iterable[str], session: Session) -> str:
        """Return why one of the rows does not hold on this kernel; empty if all do.

        Raises what the probe raises, and ContractBroken if what it opened cannot be closed.
        """
        for name in rows:
            row = self._contract.rows.get(name)
            change = row and (row.until or row.since)
            if row and change and (reason := self._missing(name, row, change, session)):
                return reason
        return ""

    def _missing(self, name: str, row: Row, change: str, session: Session) -> str:
        pending = self._contract.pending[change]
        found = self._has(change, session)
        series = f"{pending.series} ({pending.message_id})"
        if found is None:
            return f"this machine cannot show whether the kernel has {change} of {series}"
        if found and row.until:
            return f"{name} does not hold on a kernel with {change}, which this one has: {series}"
        return "" if found or row.until else f"this kernel lacks {change}, which {series} adds"

    def _has(self, change: str, session: Session) -> bool | None:
        if change not in self._probes:
            return False
        if change not in self._found:
            self._found[change] = self._probes[change](session)
            refused = session.reset()
            must(not refused, "everything that a probe opened can be closed", refused)
        return self._found[change]
