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
from harness.config.architecture import DEFAULT_ARCH, Architecture, ArchName, architecture
from harness.config.loader import Model, Tree, load, nearest
from harness.errors import UsageError

CPU_FEATURES = re.compile(r"[+-][a-z0-9][a-z0-9._-]*(,[+-][a-z0-9][a-z0-9._-]*)*")
"""Features of QEMU's CPU models, as ``--cpu-features`` takes them."""

DEFAULT_MACHINE = "intel-iommu"
"""The machine of a run that names none."""

ROOT_BUS = "pcie.0"
"""QEMU's name for the bus of the root complex."""

Id = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$", max_length=30)]
QemuType = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Text = Annotated[str, StringConstraints(min_length=1)]
Version = Annotated[str, StringConstraints(pattern=r"^\d{1,3}\.\d{1,3}(\.\d{1,3})?$")]
Properties = Mapping[QemuType, bool | int | str]

Role = Literal["under-test", "companion", "dma-engine", "management", "roce"]
"""What the cases use a device for: the exporter; a device of its reset group, which vfio-pci drives too; a device that
DMAs into the exporter; the NIC of the SSH connection; the NIC of rxe."""

Interface = Literal["cdev", "group", "iommufd-group"]
"""How user space opens a vfio device: by its character device and iommufd, or by its group and a container, which may
be an iommufd."""

Focus = Annotated[str, StringConstraints(pattern=r"^(uapi|lifecycle|importers|around)(\.[a-z0-9-]+)?$")]
"""A section of docs/contract.md (the first word of its rows), or one of its rows."""

Capability = Literal["iommufd", "dma-api", "unplug", "write-only", "hot-reset", "nvme-driver"]
"""What a machine may lack: import through iommufd; a P2P route for importers that map through the DMA API; slots whose
devices can be unplugged one by one; an IOMMU that can forbid reads where it allows writes; a device under test whose
hot reset concerns no device that the user does not own; NVMe controllers that the kernel's own driver accepts."""

NOT_INHERITED = {"purpose", "rows", "focus", "extends", "without"}
"""Keys of one machine alone: a machine that extends it does not inherit them."""
LISTED = {"purpose", "rows", "focus", "arch", "min_qemu", "qemu", "peer", "lacks"}
"""Keys that ``vfio-harness machines`` lists."""

NIC_ROLES: frozenset[Role] = frozenset({"management", "roce"})
NIC_TYPE = "virtio-net-pci"

BUS_PARENTS: Mapping[str, frozenset[str] | None] = {
    # QEMU takes a root port below a switch, too: its switch ports have no ACS.
    "pcie-root-port": frozenset({"", "pxb-pcie", "xio3130-downstream"}),
    "pxb-pcie": frozenset({""}),
    "x3130-upstream": frozenset({"pcie-root-port", "xio3130-downstream"}),
    "xio3130-downstream": frozenset({"x3130-upstream"}),
    "pcie-pci-bridge": None,
}
"""Device types with a bus of their own, and the parents that each accepts: "" is the root bus, None is any."""

OWN_IDS = frozenset({"root", "modules", "machine", "iommu"})
"""Device ids that the harness uses itself."""
OWN_PROPERTIES = frozenset({"bus", "chassis", "drive", "driver", "id", "mac", "netdev", "pmrdev", "socket", "subsys"})
"""Properties that harness.vm.command sets, from the tree, the roles, ``drive``, ``memory`` and ``subsystem``."""

VFIO_USER = "vfio-user-pci"
"""The type of a device that is a process of the harness (harness/device)."""


class Part(Model):
    """One object of QEMU: a machine, an IOMMU or a device."""

    type: QemuType
    """Its type, as ``-device help`` lists it."""
    properties: Properties = Field(default_factory=dict)
    """Its properties, as ``-device <type>,help`` lists them. One that this QEMU lacks is an error."""
    if_supported: Properties = Field(default_factory=dict)
    """Properties that are set only if this QEMU has them."""

    @field_validator("properties", "if_supported")
    @classmethod
    def _not_reserved(cls, value: Properties) -> Properties:
        if taken := sorted(OWN_PROPERTIES & value.keys()):
            raise ValueError(
                f"{', '.join(taken)}: set by the harness (from the tree, role, drive, memory and subsystem)"
            )
        return value


class Drive(Model):
    """A raw backing file, sparse and zero at boot, that the host can read while the guest runs."""

    size_mib: int = Field(gt=0)
    """Its size in MiB."""


class Memory(Model):
    """A shared memory backend for a persistent memory region (``pmrdev``): the RAM behind an NVMe's BAR4."""

    size_mib: int = Field(gt=0)
    """Its size in MiB."""
    file: bool = False
    """Whether it is a file, sparse and zero at boot, that the host can read while the guest runs."""


class VfioUser(Model):
    """A device model of harness/device, behind vfio-user-pci."""

    model: Text
    """``nvme``, ``edu``, ``memory``, ``random-SEED`` (a faulty NVMe controller, to test the harness), or a Python
    file with a class ``Device``, relative to the machine's file."""
    express: bool = True
    """Whether it has a PCI Express capability. Without one it is conventional PCI."""
    resets: tuple[Literal["pcie-flr", "af-flr"], ...] = ("pcie-flr",)
    """The function level resets that it offers. ``pcie-flr`` needs ``express``."""
    pm: bool = True
    """Whether it has a Power Management capability."""
    msix: bool = False
    """Whether it has the MSI-X capability of its model. QEMU 11.1.3 aborts when such a device is unplugged."""
    resizable: tuple[int, ...] = ()
    """BARs in a Resizable BAR capability, each of at least 1 MiB. QEMU shows the guest their present size only."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if "pcie-flr" in self.resets and not self.express:
            raise ValueError("the reset pcie-flr needs express: true")
        return self


class Device(Part):
    """A PCI device and, if it has a bus, the devices on it. QEMU chooses the slot unless ``addr`` is set."""

    id: Id
    """Its unique name, in QEMU and in the cases."""
    role: Role | None = None
    """What the cases use it for."""
    drive: Drive | None = None
    """The backing file of an NVMe's namespace."""
    memory: Memory | None = None
    """The RAM of an NVMe's persistent memory region."""
    subsystem: bool = False
    """Whether an NVMe gets a subsystem of its own (``nvme-subsys``), which SR-IOV needs. It has no ``drive`` then."""
    vfio_user: VfioUser | None = None
    """The device that a ``vfio-user-pci`` is."""
    devices: tuple["Device", ...] = ()
    """The devices on its bus."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.devices and self.type not in BUS_PARENTS:
            raise ValueError(f"{self.id}: {self.type} gives no bus for devices; these do: {', '.join(BUS_PARENTS)}")
        if self.role in NIC_ROLES and self.type != NIC_TYPE:
            raise ValueError(f"{self.id}: role {self.role} needs type {NIC_TYPE}, not {self.type}")
        if self.type == NIC_TYPE and self.role not in NIC_ROLES:
            raise ValueError(f"{self.id}: {NIC_TYPE} needs a role: {' or '.join(sorted(NIC_ROLES))}")
        if (self.type == VFIO_USER) != (self.vfio_user is not None):
            raise ValueError(f"{self.id}: vfio_user belongs to type {VFIO_USER}, which needs it")
        if self.subsystem and self.drive:
            raise ValueError(f"{self.id}: subsystem and drive exclude each other")
        for child in self.devices:
            _check_parent(child, self.type)
        return self

    @property
    def kind(self) -> str:
        """What it is to the cases: QEMU's type, or the model that it has the registers of, e.g. ``nvme``."""
        if self.vfio_user is None:
            return self.type
        return "nvme" if self.vfio_user.model.startswith("random-") else self.vfio_user.model

    def walk(self) -> Iterator[tuple["Device", str]]:
        """Yield every device below this one with the id of its bus, parents first."""
        for child in self.devices:
            yield child, self.id
            yield from child.walk()


class Peer(Model):
    """A second VM of the same machine type, CPU, kernel and guest image, without an IOMMU.

    It has two NICs: one for SSH, and one that is linked to the machine's first NIC with the role ``roce``. Nothing else
    is on that link.
    """

    vcpus: int = Field(default=1, ge=1, le=64)
    """The number of virtual CPUs."""
    memory_mib: int = Field(default=512, ge=128)
    """The RAM in MiB."""


class MachineConfig(Model):
    """A machine: its purpose and its parts."""

    _path: Path = PrivateAttr(Path("machine.yaml"))
    _is_peer: bool = PrivateAttr(False)

    purpose: Text
    """What the machine is for, in sentences."""
    machine: Part
    """QEMU's machine type."""
    cpu: Text
    """QEMU's CPU model."""
    arch: ArchName = DEFAULT_ARCH
    """The processor architecture, which decides over QEMU's program, the kernel and the guest image."""
    vcpus: int = Field(ge=1, le=64)
    """The number of virtual CPUs."""
    memory_mib: int = Field(ge=128)
    """The guest's RAM in MiB."""
    iommu: Part | None = None
    """The IOMMU device, unless ``machine`` has one built in."""
    kernel_args: tuple[Text, ...] = ()
    """Arguments added to the kernel's command line."""
    devices: tuple[Device, ...]
    """The devices on the root bus."""
    rows: tuple[Text, ...] = ()
    """The rows of docs/contract.md that the machine is for."""
    focus: tuple[Focus, ...] = ()
    """The sections and rows in which it may differ from the machine it extends; a run can be limited to them.

    Empty means all."""
    extends: Text | None = None
    """The machine whose values hold for every key that this file leaves out.

    Its devices are inherited, except those in ``without``. A device of the same id replaces the inherited one."""
    without: tuple[Id, ...] = ()
    """Devices on the root bus that are not inherited."""
    lacks: Mapping[Capability, Text] = Field(default_factory=dict)
    """Capabilities that the machine lacks, with the reason for skipping the cases that need them."""
    interface: Interface = "cdev"
    """How the cases open vfio devices."""
    min_qemu: Version | None = None
    """The oldest QEMU that has all its parts, e.g. "10.1". On an older one, every case of the machine is SKIP."""
    qemu: Text | None = None
    """The QEMU that it runs on if a run names none, as in ``QEMU=``: e.g. debian:11.1, which is fetched."""
    peer: Peer | None = None
    """A second VM, whose rxe is the RDMA peer of the machine's."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        seen: set[str] = set(OWN_IDS)
        for device, _ in self.walk():
            if device.id in seen:
                raise ValueError(
                    f"device id {device.id!r} is taken; ids are unique, and the harness uses {sorted(OWN_IDS)}"
                )
            seen.add(device.id)
        for device in self.devices:
            _check_parent(device, "")
        if (count := len(self.with_role("management"))) != 1:
            raise ValueError(f"exactly one device must have the role management, for SSH; {count} have")
        if self.peer and not self.with_role("roce"):
            raise ValueError("peer: needs a device with the role roce, which is linked to the second VM")
        return self

    @property
    def path(self) -> Path:
        """The file that it was read from, for messages."""
        return self._path

    @property
    def iommu_type(self) -> str:
        """QEMU's type of the IOMMU, a device or built in (``smmuv3``); empty without one."""
        built_in = str(self.machine.properties.get("iommu", "none"))
        return self.iommu.type if self.iommu else built_in.removeprefix("none")

    @property
    def architecture(self) -> Architecture:
        """What the architecture's kernel, image and QEMU are."""
        return architecture(self.arch)

    @property
    def name(self) -> str:
        """The file's name without ``.yaml``."""
        return self._path.stem

    def walk(self) -> Iterator[tuple[Device, str]]:
        """Yield every device with the id of its bus, parents first."""
        for device in self.devices:
            yield device, ROOT_BUS
            yield from device.walk()

    def with_role(self, role: Role) -> tuple[Device, ...]:
        """Return the devices of that role, in the file's order."""
        return tuple(device for device, _ in self.walk() if device.role == role)

    def device(self, device_id: str) -> Device:
        """Return the device of that id. Raises KeyError if there is none."""
        for device, _ in self.walk():
            if device.id == device_id:
                return device
        raise KeyError(device_id)

    @property
    def is_peer(self) -> bool:
        """Whether it is the second VM of a machine."""
        return self._is_peer

    @property
    def linked_nic(self) -> Device | None:
        """The NIC on the link between a machine and its peer; None without a link."""
        return self.with_role("roce")[0] if self.peer or self.is_peer else None

    def with_cpu_features(self, features: str) -> Self:
        """Return the machine with features added to its CPU model (``+avx``) or removed from it (``-xsave``).

        ``features``: separated by commas; empty for none. Raises UsageError for other text.
        """
        if not features:
            return self
        if not CPU_FEATURES.fullmatch(features):
            raise UsageError(
                f"CPU_FEATURES={features}: not a list of CPU features",
                hint="+NAME adds one and -NAME removes one, separated by commas, e.g. -xsave,-avx",
            )
        return self.model_copy(update={"cpu": f"{self.cpu},{features}"})

    def peer_machine(self) -> "MachineConfig | None":
        """Return the description of the machine's peer; None if it has none. The devices have the machine's ids."""
        if self.peer is None:
            return None
        found = MachineConfig(
            purpose=f"The RDMA peer of {self.name}.",
            arch=self.arch,
            machine=self.machine,
            cpu=self.cpu,
            vcpus=self.peer.vcpus,
            memory_mib=self.peer.memory_mib,
            devices=(self.with_role("management")[0], self.with_role("roce")[0]),
        )
        found._path, found._is_peer = self._path, True
        return found

    def parts(self) -> Iterator[tuple[str, Part]]:
        """Yield every part with its name in messages."""
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
    """Return the names of the shipped machines: files of vm-configs/ with a top-level ``machine`` or ``extends``."""
    files = sorted(paths.VM_CONFIGS.glob("*.yaml"), key=lambda path: path.stem)
    pattern = re.compile(r"^(machine|extends):", re.MULTILINE)
    return [file.stem for file in files if pattern.search(file.read_text(encoding="utf-8"))]


def load_machine(name_or_path: str | Path) -> MachineConfig:
    """Load a shipped machine by name, or a file by its path (it contains a slash or ends in .yaml).

    Raises UsageError that names file, line, key and accepted values.
    """
    return _load(_find(name_or_path))


def _find(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    if "/" in text or text.endswith((".yaml", ".yml")):
        return Path(text)
    known = known_machines()
    if text not in known:
        guess = nearest(text, known) or "."
        raise UsageError(f"unknown machine {text!r}{guess} Known: {', '.join(known)}. A YAML file's path works too")
    return paths.VM_CONFIGS / f"{text}.yaml"


def _load(path: Path, extended_by: tuple[Path, ...] = ()) -> MachineConfig:
    """Load a file. ``extended_by``: the files that extend it, so that no file extends itself."""
    config = load(path, MachineConfig, lambda tree: _extended(path, (*extended_by, path), tree))
    config._path = path
    return config


def _extended(path: Path, extended_by: tuple[Path, ...], tree: Tree) -> Tree:
    """Return the content of the file at ``path`` with the values that it inherits."""
    name = tree.get("extends")
    if not isinstance(name, str):  # absent, or the model refuses it
        return tree
    try:
        found = _find(name)
    except UsageError as error:
        raise UsageError(f"{path}: extends: {error}") from None
    if found in extended_by:
        raise UsageError(f"{path}: extends: {name} extends this machine in turn")
    base = _load(found, extended_by).model_dump(mode="json", exclude_unset=True, exclude=NOT_INHERITED)
    own, without = tree.get("devices", []), tree.get("without", [])
    if not (isinstance(own, list) and isinstance(without, list)):
        return tree
    if unknown := [each for each in without if each not in [device["id"] for device in base["devices"]]]:
        raise UsageError(f"{path}: without: {name} has no device {unknown[0]!r} at its top level")
    gone = [*without, *(device.get("id") for device in own if isinstance(device, dict))]
    # The file's own devices come first, so that messages find their lines.
    devices = [*own, *(device for device in base["devices"] if device["id"] not in gone)]
    return {**base, **tree, "devices": devices}


def machines_as_json() -> str:
    """Return every shipped machine as JSON: the keys of ``LISTED``."""
    machines = {name: load_machine(name).model_dump(mode="json", include=LISTED) for name in known_machines()}
    return json.dumps(machines, indent=2)


def machines_as_text() -> str:
    """Return every shipped machine as text."""
    return "\n\n".join(map(_text, map(load_machine, known_machines())))


def _text(machine: MachineConfig) -> str:
    lines = [machine.name, textwrap.fill(machine.purpose, 100, initial_indent="  ", subsequent_indent="  ")]
    lines += [f"  for {', '.join(machine.rows)}"] if machine.rows else []
    lines += [f"  is {machine.arch}"] if machine.arch != DEFAULT_ARCH else []
    lines += [f"  needs QEMU {machine.min_qemu}"] if machine.min_qemu else []
    lines += [f"  runs on QEMU={machine.qemu} unless another is chosen"] if machine.qemu else []
    lines += ["  has a second VM, its RDMA peer"] if machine.peer else []
    lines += [f"  lacks {capability}: {reason}" for capability, reason in machine.lacks.items()]
    return "\n".join(lines)
