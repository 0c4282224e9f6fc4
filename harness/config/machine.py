# SPDX-License-Identifier: GPL-2.0-only
"""The model of a machine description (``vm-configs/<name>.yaml``)."""

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PrivateAttr, StringConstraints, field_validator, model_validator

from harness import paths
from harness.config.loader import Model, Tree, load, nearest
from harness.errors import UsageError

DEFAULT_MACHINE = "intel-iommu"

ROOT_BUS = "pcie.0"

Id = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$", max_length=30)]
QemuType = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Text = Annotated[str, StringConstraints(min_length=1)]
Properties = Mapping[QemuType, bool | int | str]

Role = Literal["under-test", "companion", "dma-engine", "management", "roce"]
"""What a device is to the cases: the exporter, one that is reset along with it and so is vfio-pci's too, something that
can DMA into it, the SSH link, the NIC that rxe uses."""

Interface = Literal["cdev", "group"]
"""How user space opens a vfio device: its character device and iommufd, or its group and a container."""

Focus = Annotated[str, StringConstraints(pattern=r"^(uapi|lifecycle|importers|around)(\.[a-z0-9-]+)?$")]
"""A section of docs/contract.md, which is the first word of its rows, or one of its rows."""

Capability = Literal["iommufd", "dma-api", "unplug"]
"""What a machine may lack: importing through iommufd; a P2P route for importers that map by the DMA API; slots whose
devices can be unplugged one by one."""

OF_ONE = {"purpose", "rows", "focus", "extends", "without"}
"""Keys that speak of one machine alone, and are not handed on."""
TOLD = {"purpose", "rows", "focus", "lacks"}
"""Keys that say what a machine is for."""

NIC_ROLES: frozenset[Role] = frozenset({"management", "roce"})
NIC_TYPE = "virtio-net-pci"

BUS_PARENTS: Mapping[str, frozenset[str] | None] = {
    "pcie-root-port": frozenset({"", "pxb-pcie"}),
    "pxb-pcie": frozenset({""}),
    "x3130-upstream": frozenset({"pcie-root-port", "xio3130-downstream"}),
    "xio3130-downstream": frozenset({"x3130-upstream"}),
    "pcie-pci-bridge": None,
}
"""Device types that give a bus, and the parents they take: "" is the root bus, None is anywhere."""

OWN_IDS = frozenset({"root", "modules", "machine", "iommu"})
OWN_PROPERTIES = frozenset({"bus", "chassis", "drive", "driver", "id", "mac", "netdev", "pmrdev"})
"""What harness.vm.command sets itself, from the tree, the roles, ``drive`` and ``memory``."""


class Part(Model):
    """Something QEMU makes: its type and properties, as ``-device <type>,help`` names them."""

    type: QemuType
    properties: Properties = Field(default_factory=dict)
    if_supported: Properties = Field(default_factory=dict)
    """Properties set only where this QEMU has them; one of ``properties`` that it lacks is an error."""

    @field_validator("properties", "if_supported")
    @classmethod
    def _not_ours(cls, value: Properties) -> Properties:
        if taken := sorted(OWN_PROPERTIES & value.keys()):
            raise ValueError(f"{', '.join(taken)}: set by the harness (from the tree, role, drive and memory)")
        return value


class Drive(Model):
    """A raw backing file, sparse and zero at boot, that the host can read while the guest runs."""

    size_mib: int = Field(gt=0)


class Memory(Model):
    """A shared memory backend, for a persistent memory region (``pmrdev``): the RAM behind an NVMe's BAR4."""

    size_mib: int = Field(gt=0)


class Device(Part):
    """A PCI device and, if it gives a bus, what sits on that bus. Slots are given by QEMU unless ``addr`` says."""

    id: Id
    role: Role | None = None
    drive: Drive | None = None
    memory: Memory | None = None
    devices: tuple["Device", ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.devices and self.type not in BUS_PARENTS:
            raise ValueError(
                f"{self.id}: {self.type} gives no bus to put devices on; these do: {', '.join(BUS_PARENTS)}"
            )
        if self.role in NIC_ROLES and self.type != NIC_TYPE:
            raise ValueError(f"{self.id}: role {self.role} needs type {NIC_TYPE}, not {self.type}")
        if self.type == NIC_TYPE and self.role not in NIC_ROLES:
            raise ValueError(f"{self.id}: {NIC_TYPE} needs a role: {' or '.join(sorted(NIC_ROLES))}")
        for child in self.devices:
            _check_parent(child, self.type)
        return self

    def walk(self) -> Iterator[tuple["Device", str]]:
        """Every device below this one with the id of its bus, parents first."""
        for child in self.devices:
            yield child, self.id
            yield from child.walk()


class MachineConfig(Model):
    """A machine: what it is for, what it is made of.

    ``rows``: the rows of docs/contract.md that it is there for. ``focus``: the sections and rows in which it may differ
    from the machine that it extends, to which a run can be limited; none named is all. ``lacks``: why a case that needs
    the capability is skipped here. ``extends``: the machine whose values hold for every key that this file leaves out,
    and whose devices are here too, less those in ``without``; one of the same id takes its place.
    """

    _path: Path = PrivateAttr(Path("machine.yaml"))

    purpose: Text
    machine: Part
    cpu: Text
    vcpus: int = Field(ge=1, le=64)
    memory_mib: int = Field(ge=128)
    iommu: Part | None = None
    kernel_args: tuple[Text, ...] = ()
    devices: tuple[Device, ...]
    rows: tuple[Text, ...] = ()
    focus: tuple[Focus, ...] = ()
    extends: Text | None = None
    without: tuple[Id, ...] = ()
    lacks: Mapping[Capability, Text] = Field(default_factory=dict)
    interface: Interface = "cdev"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        seen: set[str] = set(OWN_IDS)
        for device, _ in self.walk():
            if device.id in seen:
                raise ValueError(f"device id {device.id!r} is taken; ids are unique, and {sorted(OWN_IDS)} are ours")
            seen.add(device.id)
        for device in self.devices:
            _check_parent(device, "")
        if (count := len(self.with_role("management"))) != 1:
            raise ValueError(f"exactly one device must have the role management, for SSH; {count} have")
        return self

    @property
    def path(self) -> Path:
        """The file it was read from, for messages."""
        return self._path

    @property
    def name(self) -> str:
        """The file's name, less ``.yaml``."""
        return self._path.stem

    def walk(self) -> Iterator[tuple[Device, str]]:
        """Every device with the id of the bus it sits on, parents first."""
        for device in self.devices:
            yield device, ROOT_BUS
            yield from device.walk()

    def with_role(self, role: Role) -> tuple[Device, ...]:
        """The devices of that role, in the file's order."""
        return tuple(device for device, _ in self.walk() if device.role == role)

    def device(self, device_id: str) -> Device:
        """The device of that id; KeyError if there is none."""
        for device, _ in self.walk():
            if device.id == device_id:
                return device
        raise KeyError(device_id)

    def parts(self) -> Iterator[tuple[str, Part]]:
        """Everything that has QEMU properties, with the name it goes by in messages."""
        yield "machine", self.machine
        if self.iommu:
            yield "iommu", self.iommu
        for device, _ in self.walk():
            yield device.id, device


def _check_parent(device: Device, parent: str) -> None:
    accepted = BUS_PARENTS.get(device.type)
    if accepted is not None and parent not in accepted:
        names = " or ".join(name or "the root bus" for name in sorted(accepted))
        raise ValueError(f"{device.id}: {device.type} sits on {names}, not on {parent or 'the root bus'}")


def known_machines() -> list[str]:
    """The names of the shipped machines: the files of vm-configs/ with a top-level ``machine`` or ``extends``."""
    files = sorted(paths.VM_CONFIGS.glob("*.yaml"))
    pattern = re.compile(r"^(machine|extends):", re.MULTILINE)
    return [file.stem for file in files if pattern.search(file.read_text(encoding="utf-8"))]


def load_machine(name_or_path: str | Path) -> MachineConfig:
    """A shipped machine by name, or any file by path (what contains a slash or ends in .yaml).

    Raises UsageError naming file, line, key and what is accepted.
    """
    return _load(_find(name_or_path))


def _find(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    if "/" in text or text.endswith((".yaml", ".yml")):
        return Path(text)
    known = known_machines()
    if text not in known:
        guess = nearest(text, known) or "."
        raise UsageError(f"unknown machine {text!r}{guess} Known: {', '.join(known)}; or give the path of a file")
    return paths.VM_CONFIGS / f"{text}.yaml"


def _load(path: Path, heirs: tuple[Path, ...] = ()) -> MachineConfig:
    """``heirs``: the files that extend this one, so that none is its own heir."""
    config = load(path, MachineConfig, lambda tree: _extended(path, (*heirs, path), tree))
    config._path = path
    return config


def _extended(path: Path, heirs: tuple[Path, ...], tree: Tree) -> Tree:
    """What the file at ``path`` says, on top of the machine that it extends."""
    name = tree.get("extends")
    if not isinstance(name, str):  # absent, or for the model to refuse
        return tree
    try:
        found = _find(name)
    except UsageError as error:
        raise UsageError(f"{path}: extends: {error}") from None
    if found in heirs:
        raise UsageError(f"{path}: extends: {name} extends this machine in turn")
    base = _load(found, heirs).model_dump(mode="json", exclude_unset=True, exclude=OF_ONE)
    own, without = tree.get("devices", []), tree.get("without", [])
    if not (isinstance(own, list) and isinstance(without, list)):
        return tree
    if unknown := [each for each in without if each not in [device["id"] for device in base["devices"]]]:
        raise UsageError(f"{path}: without: {name} has no device {unknown[0]!r} at its top level")
    gone = [*without, *(device.get("id") for device in own if isinstance(device, dict))]
    # The file's own come first, where messages look for them.
    devices = [*own, *(device for device in base["devices"] if device["id"] not in gone)]
    return {**base, **tree, "devices": devices}


def machines_as_json() -> str:
    """Every shipped machine: ``purpose``, ``rows``, ``focus``, ``lacks``."""
    told = {name: load_machine(name).model_dump(mode="json", include=TOLD) for name in known_machines()}
    return json.dumps(told, indent=2)


def machines_as_text() -> str:
    """Every shipped machine, to read."""
    return "\n\n".join(map(_text, map(load_machine, known_machines())))


def _text(machine: MachineConfig) -> str:
    lines = [machine.name, textwrap.fill(machine.purpose, 100, initial_indent="  ", subsequent_indent="  ")]
    lines += [f"  for {', '.join(machine.rows)}"] if machine.rows else []
    lines += [f"  lacks {capability}: {reason}" for capability, reason in machine.lacks.items()]
    return "\n".join(lines)
