# SPDX-License-Identifier: GPL-2.0-only
"""Test the command line: it follows the machine description, and opens no other way in or out."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from harness import paths
from harness.config import MachineConfig, load_machine
from harness.vm.command import (
    Boot,
    Channels,
    arguments,
    backing_sizes,
    device_options,
    kernel_command_line,
    link,
    option,
    shown,
)

BOOT = Boot(
    Path("/k/bzImage"),
    Path("/i/root.erofs"),
    Path("/k/modules.erofs"),
    Path("/i/key"),
    "ssh-ed25519 AAAA",
    Path("/i/agent.zip"),
    "last=1",
)
MACHINE = load_machine("intel-iommu")
ARM64 = "arm64-smmuv3"
"""A machine of another architecture than the default."""


def options(config: MachineConfig = MACHINE, boot: Boot = BOOT) -> list[tuple[str, str]]:
    settled = {name: {**part.properties, **part.if_supported} for name, part in config.parts()}
    drives = {name: Path(f"/run/{name}.img") for name in backing_sizes(config)}
    words = arguments(config, settled, "tcg", boot, drives)
    return [(word, words[i + 1]) for i, word in enumerate(words[:-1]) if word.startswith("-")]


def devices(config: MachineConfig = MACHINE) -> dict[str, dict[str, str]]:
    """Return each -device that has an id, with its properties; ``type`` is its driver."""
    found = {}
    for _, words in (pair for pair in options(config) if pair[0] == "-device"):
        kind, *pairs = words.split(",")
        properties = dict(pair.split("=", 1) for pair in pairs)
        found[properties.get("id", kind)] = {"type": kind, **properties}
    return found


def test_devices_of_the_default_machine() -> None:
    made = devices()
    assert made["intel-iommu"]["aw-bits"] == "48"
    assert made["intel-iommu"]["intremap"] == "on"
    assert made["nvme0"] == {
        **{"type": "nvme", "id": "nvme0", "bus": "rp-nvme0", "drive": "nvme0-drive"},
        **{"serial": "vfio-harness-0", "cmb_size_mb": "16", "dbcs": "off"},
    }
    assert made["edu0"]["dma_mask"] == "0xffffffffffffffff"
    assert made["mgmt0"]["mac"] == "52:54:00:76:66:01"
    assert made["roce0"]["mac"] == "52:54:00:76:66:11"


def test_iommu_precedes_the_devices_it_translates() -> None:
    kinds = [words.split(",")[0] for name, words in options() if name == "-device"]
    assert kinds.index("intel-iommu") < min(kinds.index(kind) for kind in ("virtio-blk-pci", "nvme", "edu"))


def test_guest_disks_are_read_only_and_in_the_order_init_expects() -> None:
    files = [words for name, words in options() if name == "-blockdev"]
    assert files[0] == "file,node-name=root,filename=/i/root.erofs,read-only=on"
    assert files[1] == "file,node-name=modules,filename=/k/modules.erofs,read-only=on"
    assert all("read-only" not in words for words in files[2:])


def test_kernel_without_modules_has_no_modules_disk() -> None:
    boot = replace(BOOT, modules=None)
    assert not [words for _, words in options(boot=boot) if "modules" in words]


def test_each_slot_has_its_own_chassis() -> None:
    chassis = [made["chassis"] for made in devices().values() if made["type"] == "pcie-root-port"]
    assert len(chassis) == len(set(chassis)) == 3


def test_ssh_on_loopback_is_the_only_connection() -> None:
    networks = [words for name, words in options() if name == "-netdev"]
    assert len(networks) == 2
    assert all("restrict=on" in words for words in networks)
    assert [words for words in networks if "fwd" in words] == [
        "user,id=mgmt0-net,restrict=on,hostfwd=tcp:127.0.0.1:0-:22"
    ]


def test_a_machine_and_its_peer_share_a_socket_and_nothing_else() -> None:
    machine = load_machine("roce-pair")
    peer = machine.peer_machine()
    assert peer
    for config in (machine, peer):
        assert [words for name, words in options(config) if name == "-netdev"] == [
            "user,id=mgmt0-net,restrict=on,hostfwd=tcp:127.0.0.1:0-:22"
        ]
        assert link(config, 7) == ("-netdev", "stream,id=roce0-net,addr.type=fd,addr.str=7")
        assert "restrict=on" in link(config, None)[1]
    assert devices(machine)["roce0"]["mac"] != devices(peer)["roce0"]["mac"]
    assert not devices(peer).keys() & {"nvme0", "intel-iommu"}
    assert link(MACHINE, None) == ()


def test_kernel_command_line_ends_with_the_callers() -> None:
    words = kernel_command_line(MACHINE, BOOT).split()
    assert {"root=/dev/vda", "init=/sbin/vfio-harness-init", "console=ttyS0", "intel_iommu=on"} <= set(words)
    assert words[-1] == "last=1"


def test_memory_becomes_the_devices_pmr(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    text = (paths.VM_CONFIGS / "intel-iommu.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace("drive: {size_mib: 16}", "memory: {size_mib: 8192}"), encoding="utf-8")
    config = load_machine(path)
    assert ("-object", "memory-backend-ram,id=nvme1-memory,share=on,size=8192M") in options(config)
    assert devices(config)["nvme1"]["pmrdev"] == "nvme1-memory"
    assert "drive" not in devices(config)["nvme1"]


def test_memory_in_a_file_is_named_after_its_device() -> None:
    config = load_machine("pmr")
    assert backing_sizes(config) == {"nvme0": 64, "nvme0-memory": 64, "nvme1": 16}
    backend = "memory-backend-file,id=nvme0-memory,share=on,size=64M,mem-path=/run/nvme0-memory.img"
    assert ("-object", backend) in options(config)


def test_a_subsystem_precedes_its_controller() -> None:
    config = load_machine("sriov")
    made = [words for name, words in options(config) if name == "-device"]
    (subsystem,) = (index for index, words in enumerate(made) if words == "nvme-subsys,id=nvme0-subsystem")
    assert made[subsystem + 1].startswith("nvme,id=nvme0,")
    assert devices(config)["nvme0"]["subsys"] == "nvme0-subsystem"


@pytest.mark.parametrize(
    ("properties", "words"),
    [({}, "x"), ({"a": True, "b": False}, "x,a=on,b=off"), ({"n": 5}, "x,n=5"), ({"file": "a,b"}, "x,file=a,,b")],
)
def test_option_syntax(properties: dict[str, bool | int | str], words: str) -> None:
    assert option("x", properties) == words


def test_channels_inherit_or_write_and_do_not_listen() -> None:
    words = list(Channels(7, Path("/run/a,b/console.log"), Path("/run/trace.log")).arguments())
    assert "socket,id=qmp,fd=7" in words
    assert "file,id=console,path=/run/a,,b/console.log" in words
    assert not [word for word in words if "server" in word or "tcp" in word]
    assert Channels(7, Path("c"), Path("t"), 1234).arguments().__next__() == "-S"
    assert "tcp:127.0.0.1:1234" in list(Channels(7, Path("c"), Path("t"), 1234).arguments())


def test_shown_command_can_be_pasted() -> None:
    words = ["/bin/qemu", "-append", "a=b c", "-S", "-device", "x,y='1'"]
    assert shlex.split(shown(words).replace("\\\n", "")) == words


def vfio_user(text: str, tmp_path: Path) -> tuple[MachineConfig, dict[str, Path]]:
    file = tmp_path / "own.yaml"
    file.write_text(text)
    config = load_machine(file)
    return config, {device.id: tmp_path / f"{device.id}.sock" for device, _ in config.walk() if device.vfio_user}


def test_a_vfio_user_device_is_json_with_its_socket(tmp_path: Path) -> None:
    text = "purpose: x\nextends: vfio-user\n"
    config, sockets = vfio_user(text, tmp_path)
    settled = {name: dict(part.properties) for name, part in config.parts()}
    made = json.loads(device_options(config, settled, sockets)["nvme0"])
    assert made == {
        **{"driver": "vfio-user-pci", "id": "nvme0", "bus": "rp-nvme0"},
        **{"x-no-posted-writes": True, "x-msg-timeout": 20000},
        "socket": {"type": "unix", "path": str(tmp_path / "nvme0.sock")},
    }
    assert json.loads(device_options(config, settled, sockets)["af0"])["x-msg-timeout"] == 6000


def test_the_drive_of_a_vfio_user_device_is_no_drive_of_qemu(tmp_path: Path) -> None:
    config, sockets = vfio_user("purpose: x\nextends: vfio-user\n", tmp_path)
    settled = {name: dict(part.properties) for name, part in config.parts()}
    drives = {name: Path(f"/run/{name}.img") for name in backing_sizes(config)}
    assert {"nvme0", "nvme1"} <= drives.keys()
    words = arguments(config, settled, "tcg", BOOT, drives, sockets=sockets)
    assert not [word for word in words if "nvme0.img" in word]


def test_the_console_is_that_of_the_architecture() -> None:
    assert "console=ttyS0 tsc=reliable no_timer_check " in kernel_command_line(MACHINE, BOOT)
    words = kernel_command_line(load_machine(ARM64), BOOT).split()
    assert "console=ttyAMA0" in words
    assert not {"tsc=reliable", "no_timer_check", "console=ttyS0"} & {*words}


def test_an_iommu_of_the_machine_type_is_no_device() -> None:
    made = options(load_machine(ARM64))
    assert ("-machine", "virt,gic-version=3,its=on,iommu=smmuv3") in made
    assert not any("iommu" in value for word, value in made if word == "-device")
