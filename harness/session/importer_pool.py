# SPDX-License-Identifier: GPL-2.0-only
"""The importers of a session. One stays ready from case to case until its device is wanted for something else."""

from collections import Counter
from dataclasses import dataclass

from harness.config import Interface
from harness.errors import UsageError
from harness.session.client import Agent, Caller
from harness.session.importers import IMPORTERS, Importer, ImporterKind
from harness.session.ioas import Ioas
from harness.session.opening import DeviceOpener
from harness.session.references import References
from harness.session.wire import Ref
from harness.vm import Machine


@dataclass(frozen=True)
class _ReadyImporter:
    """An importer, its device, and its objects in the agent in the order of their creation."""

    importer: Importer
    refs: list[Ref]
    held: Counter[str]
    """The references that it holds while it is ready. Empty for one that the case ends."""
    kept: bool = True
    """Whether it stays ready from case to case."""


class ImporterPool:
    """Makes importers by name (a key of ``IMPORTERS``), of the machine's first fitting device.

    Each method that makes one raises UsageError if the machine has no such device, KernelErrno if the kernel refuses.
    """

    def __init__(self, machine: Machine, agent: Agent, references: References, opener: DeviceOpener) -> None:
        self._machine = machine
        self._agent = agent
        self._references = references
        self._opener = opener
        self._ready: dict[str, _ReadyImporter] = {}
        self._rxe_link: tuple[str, int] | None = None

    def get(self, name: str) -> Importer:
        """Return an importer that stays ready. It is made when it is first wanted."""
        if name not in self._ready:
            self._ready[name] = self._make(IMPORTERS[name])
        return self._ready[name].importer

    def for_the_case(self, name: str, *, via: Interface = "cdev", ioas: Ioas | None = None) -> Importer:
        """Make an importer that the case ends. ``ioas``: the address space that its device enters."""
        importer, refs = self._open(IMPORTERS[name], self._agent, via=via, ioas=ioas)
        self._ready[name] = _ReadyImporter(importer, refs, Counter(), kept=False)
        return importer

    def in_process(self, name: str, caller: Caller) -> Importer:
        """Make an importer in a forked process, which ends it."""
        return self._open(IMPORTERS[name], caller)[0]

    def objects(self, importer: Importer) -> list[Ref]:
        """Return the objects of an importer in the agent, in the order of their creation."""
        return self._ready[importer.kind.name].refs

    def end_case(self) -> list[Ref]:
        """Forget the importers that the case ends. Returns the objects of the others, which stay open."""
        self._ready = {name: ready for name, ready in self._ready.items() if ready.kept}
        return [ref for ready in self._ready.values() for ref in ready.refs]

    def release(self, device_id: str) -> None:
        """Close the importers that use a device."""
        for name, ready in list(self._ready.items()):
            if ready.importer.device_id == device_id:
                del self._ready[name]
                self._references.release(ready.held)
                for ref in reversed(ready.refs):
                    self._agent.call(ref, "close")

    def add_rxe_link(self) -> tuple[str, int]:
        """Create rxe's device if needed. Returns its name, and the index of its GID that is an IPv4 address.

        What it holds is expected to stay: with lockdep, its sockets hold the module."""
        if self._rxe_link is None:
            with self._references.kept():
                bdf = self._machine.pci_address(self._device_for(IMPORTERS["rxe"]))
                link, gid = self._agent.call("verbs", "add_link", bdf=bdf)
            self._rxe_link = str(link), int(gid)
        return self._rxe_link

    def _make(self, kind: ImporterKind) -> _ReadyImporter:
        self.release(self._device_for(kind))
        if kind is IMPORTERS["rxe"]:
            self.add_rxe_link()
        with self._references.kept() as held:
            importer, refs = self._open(kind, self._agent)
            return _ReadyImporter(importer, refs, held)

    def _open(
        self, kind: ImporterKind, caller: Caller, *, via: Interface = "cdev", ioas: Ioas | None = None
    ) -> tuple[Importer, list[Ref]]:
        """Make an importer. Returns it and its objects behind ``caller`` in the order of their creation."""
        device_id = self._device_for(kind)
        self.release(device_id)
        if kind.driver == "its own":
            bdf = self._machine.pci_address(device_id)
            ref = caller.call(*kind.engine, bdf=bdf)
            return Importer(caller, ref, kind, bdf, device_id=device_id), [ref]
        device, refs = self._opener.open(device_id, via, caller, ioas=ioas)
        ref = caller.call(*kind.engine, device=device)
        return Importer(caller, ref, kind, device.bdf, device_id=device_id, device=device), [*refs, ref]

    def _device_for(self, kind: ImporterKind) -> str:
        for device in self._machine.config.with_role(kind.role):
            if device.kind == kind.device_kind:
                return device.id
        path = self._machine.config.path
        raise UsageError(
            f"{path}: importer {kind.name} needs a device of kind {kind.device_kind} with role {kind.role}"
        )
