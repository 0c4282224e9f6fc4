# SPDX-License-Identifier: GPL-2.0-only
"""Build QEMU's command line: a pure function of the machine, what it boots, and its channels."""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from harness.config import VFIO_USER, Device, MachineConfig

MANAGEMENT_MAC = "52:54:00:76:66:01"
ROCE_MAC = "52:54:00:76:66:{:02x}"  # the guest's init derives the IP address from the last byte, 0x10 to 0x19
FIRST_ROCE, FIRST_ROCE_OF_PEER = 0x11, 0x15
GUEST_SSH_PORT = 22
SLOT_TYPES = frozenset({"pcie-root-port", "xio3130-downstream"})
"""Ports with a hot-plug slot. QEMU requires unique (chassis, slot) pairs, and every default is (0, 0)."""

OWN_KERNEL_ARGS = (
    *("root=/dev/vda", "rootfstype=erofs", "ro", "init=/sbin/vfio-harness-init"),
    "printk.time=1",
    "panic=-1",  # in a kernel without pvpanic, a panic becomes a reset, which QMP reports
    "nokaslr",  # so that System.map and gdb resolve a vCPU's program counter without an offset
)

VFIO_USER_OPTIONS = {
    # A write has reached the device when it ends, so the device's log is complete.
    "x-no-posted-writes": True,
    # Milliseconds after which QEMU gives an answer up. A late answer ends the link, so no device holds one longer.
    "x-msg-timeout": 20_000,
}
"""Properties of each vfio-user-pci, unless the machine's description has others."""

Scalar = bool | int | str
Settled = Mapping[str, Mapping[str, Scalar]]


@dataclass(frozen=True)
class Boot:
    """What QEMU boots, and what the guest then runs."""

    kernel: Path
    root: Path
    """A read-only erofs image."""
    modules: Path | None
    """A read-only erofs image; None for a kernel without modules."""
    ssh_key: Path
    host_key: str
    """The guest's public key, ``ssh-ed25519 AAAA...``."""
    agent: Path
    """A zip application, which a session uploads."""
    append: str = ""
    """The end of the kernel's command line."""


@dataclass(frozen=True)
class Channels:
    """The harness's links to one QEMU: descriptors that QEMU inherits, and files in the machine's own directory."""

    qmp_fd: int
    console: Path
    trace: Path
    gdb_port: int | None = None

    def arguments(self) -> Iterator[str]:
        """Yield the options of the channels. None listens, except gdb's stub on loopback.

        The guest waits (``-S``) until QMP is connected, so that no event is lost.
        """
        yield from ("-S", "-chardev", f"socket,id=qmp,fd={self.qmp_fd}", "-mon", "chardev=qmp,mode=control")
        path = _escape(str(self.console))
        yield from ("-chardev", f"file,id=console,path={path}")
        # The timestamps give the witnesses' evidence its times.
        yield from ("-serial", "chardev:console", "-D", str(self.trace), "-msg", "timestamp=on")
        if self.gdb_port:
            yield from ("-gdb", f"tcp:127.0.0.1:{self.gdb_port}")


INTERACTIVE = ("-serial", "mon:stdio")
"""Replaces Channels in a line to type: console and monitor on the terminal (Ctrl-a c toggles)."""


def option(kind: str, properties: Mapping[str, Scalar]) -> str:
    """Format ``kind,key=value,...`` for QEMU's option parser: on/off for bools, doubled commas."""
    words = {True: "on", False: "off"}
    pairs = (f"{key}={_escape(words[v] if isinstance(v, bool) else str(v))}" for key, v in properties.items())
    return ",".join((kind, *pairs))


def _escape(value: str) -> str:
    return value.replace(",", ",,")


def arguments(
    config: MachineConfig,
    settled: Settled,
    accel: str,
    boot: Boot,
    drives: Mapping[str, Path],
    *clock: str,
    sockets: Mapping[str, Path] = MappingProxyType({}),
) -> list[str]:
    """Return QEMU's options without its path and channels.

    ``settled`` is from ``qemu.settle``. ``drives`` maps the names of ``backing_sizes`` to files, and ``sockets`` the
    devices with ``vfio_user`` to those of their server. ``clock``: arguments of the kernel that the accelerator needs.
    """
    return [
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-machine", option(config.machine.type, settled["machine"])),
        *("-accel", accel, "-cpu", config.cpu, "-smp", str(config.vcpus), "-m", str(config.memory_mib)),
        *("-kernel", str(boot.kernel), "-append", kernel_command_line(config, boot, *clock)),
        # After a panic the VM is paused, so its console is complete and its registers can be read.
        *("-action", "panic=pause", "-device", "pvpanic-pci"),
        # It must precede every device whose addresses it translates.
        *(("-device", option(config.iommu.type, settled["iommu"])) if config.iommu else ()),
        *_image("root", boot.root),
        *(_image("modules", boot.modules) if boot.modules else ()),
        *_devices(config, settled, drives, sockets),
    ]


def kernel_command_line(config: MachineConfig, boot: Boot, *clock: str) -> str:
    """Join the harness's arguments, the architecture's, the machine's, and the caller's."""
    arch = config.architecture
    own = (*OWN_KERNEL_ARGS, f"console={arch.console}", *arch.kernel_args)
    return " ".join((*own, *clock, *config.kernel_args, boot.append)).strip()


def _image(name: str, file: Path) -> Iterator[str]:
    yield from ("-blockdev", option("file", {"node-name": name, "filename": str(file), "read-only": True}))
    yield from ("-device", option("virtio-blk-pci", {"id": name, "drive": name}))


def _devices(
    config: MachineConfig, settled: Settled, drives: Mapping[str, Path], sockets: Mapping[str, Path]
) -> Iterator[str]:
    fronts = device_options(config, settled, sockets)
    for device, _ in config.walk():
        if device.drive and not device.vfio_user:
            file = option("file", {"node-name": f"{device.id}-drive", "filename": str(drives[device.id])})
            yield from ("-blockdev", file)
        if device.memory:
            name = memory_name(device.id)
            backend: dict[str, Scalar] = {"id": name, "share": True, "size": f"{device.memory.size_mib}M"}
            if device.memory.file:
                yield from ("-object", option("memory-backend-file", {**backend, "mem-path": str(drives[name])}))
            else:
                yield from ("-object", option("memory-backend-ram", backend))
        if device.subsystem:
            yield from ("-device", option("nvme-subsys", {"id": f"{device.id}-subsystem"}))
        if device.role in ("management", "roce") and device is not config.linked_nic:
            yield from ("-netdev", _netdev(device))
        yield from ("-device", fronts[device.id])


def device_options(
    config: MachineConfig, settled: Settled, sockets: Mapping[str, Path] = MappingProxyType({})
) -> dict[str, str]:
    """Return the argument of ``-device``, or of the monitor's ``device_add``, by device id, parents first."""
    slots = iter(range(1, 256))
    roce = iter(range(FIRST_ROCE_OF_PEER if config.is_peer else FIRST_ROCE, 0x1A))
    found = {}
    for device, bus in config.walk():
        own: dict[str, Scalar] = {"id": device.id, "bus": bus}
        if device.vfio_user:
            found[device.id] = _vfio_user(own, settled[device.id], sockets[device.id])
            continue
        if device.type in SLOT_TYPES:
            own["chassis"] = next(slots)
        if device.drive:
            own["drive"] = f"{device.id}-drive"
        if device.memory:
            own["pmrdev"] = memory_name(device.id)
        if device.subsystem:
            own["subsys"] = f"{device.id}-subsystem"
        if device.role in ("management", "roce"):
            own |= {"netdev": f"{device.id}-net", "mac": _mac(device, roce)}
        found[device.id] = option(device.type, {**own, **settled[device.id]})
    return found


def _vfio_user(own: Mapping[str, Scalar], settled: Mapping[str, Scalar], socket: Path) -> str:
    """Format a vfio-user-pci. QEMU takes its socket as JSON only."""
    properties = {**VFIO_USER_OPTIONS, **settled, "socket": {"type": "unix", "path": str(socket)}}
    return json.dumps({"driver": VFIO_USER, **own, **properties})


def memory_name(device_id: str) -> str:
    """Return the name of a device's memory backend, and of its file in ``drives``."""
    return f"{device_id}-memory"


def backing_sizes(config: MachineConfig) -> dict[str, int]:
    """Return the size in MiB of each file behind a device: a drive, by the device's id, or a ``memory_name``."""
    devices = [device for device, _ in config.walk()]
    drives = {device.id: device.drive.size_mib for device in devices if device.drive}
    memories = {memory_name(each.id): each.memory.size_mib for each in devices if each.memory and each.memory.file}
    return drives | memories


def _mac(device: Device, roce: Iterator[int]) -> str:
    return MANAGEMENT_MAC if device.role == "management" else ROCE_MAC.format(next(roce))


def _netdev(device: Device) -> str:
    if device.role == "management":
        # restrict: no route out of the guest. Port 0: the host picks a free one, which ssh_port asks QEMU for.
        return f"user,id={device.id}-net,restrict=on,hostfwd=tcp:127.0.0.1:0-:{GUEST_SSH_PORT}"
    # A NIC without a peer stalls at its first packet ("NETDEV WATCHDOG"). rxe's own traffic loops back in the guest.
    return f"user,id={device.id}-net,restrict=on,ipv6=off,net=192.168.66.0/24"


def link(config: MachineConfig, fd: int | None) -> tuple[str, ...]:
    """Return the option that connects the NIC on the link to a machine's peer; none without a link.

    ``fd``: a stream socket, whose other end the other QEMU has. None: the NIC has no peer.
    """
    if (nic := config.linked_nic) is None:
        return ()
    return "-netdev", _netdev(nic) if fd is None else f"stream,id={nic.id}-net,addr.type=fd,addr.str={fd}"


def shown(words: list[str]) -> str:
    """Format a command line to read and to paste: one option per line, quoted for a shell."""
    lines = [words[0]]
    for word in words[1:]:
        if word.startswith("-"):
            lines.append(word)
        else:
            lines[-1] += f" {shlex.quote(word)}"
    return " \\\n    ".join(lines)
