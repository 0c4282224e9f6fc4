# SPDX-License-Identifier: GPL-2.0-only
"""Choosing a QEMU and settling a machine's properties with what it has. The QEMUs here are scripts that answer."""

import json
from pathlib import Path

import pytest

from harness.config import load_machine
from harness.errors import MissingPrerequisite, UsageError
from harness.vm.accel import choose_accel
from harness.vm.qemu import Qemu, settle

HAVE = {
    "pc-q35-8.0-machine": ["sata", "smbus", "usb", "vmport", "hpet"],
    "intel-iommu": ["intremap", "aw-bits"],
    "virtio-net-pci": ["mac"],
    "pcie-root-port": ["chassis", "x-speed", "x-width"],
    "nvme": ["serial", "cmb_size_mb"],
    "edu": ["dma_mask"],
    "pci-testdev": ["membar"],
}
SCRIPT = """#!/usr/bin/python3
import json, sys
have = json.loads({have!r})
if sys.argv[1] == "--version":
    print("QEMU emulator version {version} (test)")
    sys.exit()
open(sys.argv[0] + ".asked", "a").write("x")
print(json.dumps({{"QMP": {{}}}}))
for line in sys.stdin:
    command = json.loads(line)
    if command["execute"] == "query-machines":
        print(json.dumps({{"return": [{{"name": "pc-q35-8.0", "alias": "q35"}}, {{"name": "none"}}]}}))
    elif command["execute"] == "qom-list-properties":
        found = have.get(command["arguments"]["typename"])
        print(json.dumps({{"return": [{{"name": n}} for n in found]}} if found else {{"error": {{}}}}))
    else:
        print(json.dumps({{"return": {{}}}}))
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFIO_HARNESS_CACHE", str(tmp_path / "cache"))


def script(tmp_path: Path, have: dict[str, list[str]] = HAVE, version: str = "8.0.0") -> Path:
    path = tmp_path / "qemu"
    path.write_text(SCRIPT.format(have=json.dumps(have), version=version), encoding="ascii")
    path.chmod(0o755)
    return path


def without(kind: str, name: str) -> dict[str, list[str]]:
    return {**HAVE, kind: [other for other in HAVE[kind] if other != name]}


def test_optional_property_is_left_out_where_it_is_absent(tmp_path: Path) -> None:
    settled = settle(load_machine("intel-iommu"), Qemu.probe(script(tmp_path)))
    assert settled["nvme0"] == {"serial": "vfio-harness-0", "cmb_size_mb": 16}


def test_optional_property_is_set_where_it_exists(tmp_path: Path) -> None:
    have = {**HAVE, "nvme": [*HAVE["nvme"], "dbcs"]}
    settled = settle(load_machine("intel-iommu"), Qemu.probe(script(tmp_path, have)))
    assert settled["nvme0"]["dbcs"] == "off"


@pytest.mark.parametrize(
    ("have", "said"),
    [
        (without("nvme", "cmb_size_mb"), r"nvme0: QEMU 8\.0\.0's nvme has no property 'cmb_size_mb'"),
        (without("intel-iommu", "aw-bits"), "iommu: .*intel-iommu has no property 'aw-bits'"),
        (without("pc-q35-8.0-machine", "hpet"), "machine: .*q35 has no property 'hpet'"),
        ({kind: HAVE[kind] for kind in HAVE if kind != "edu"}, "edu0: QEMU .* has no 'edu'"),
    ],
)
def test_what_qemu_lacks_is_named(tmp_path: Path, have: dict[str, list[str]], said: str) -> None:
    with pytest.raises(UsageError, match=rf"intel-iommu\.yaml: {said}"):
        settle(load_machine("intel-iommu"), Qemu.probe(script(tmp_path, have)))


def test_qemu_is_asked_once_until_it_changes(tmp_path: Path) -> None:
    path, machine = script(tmp_path), load_machine("intel-iommu")
    asked = tmp_path / "qemu.asked"
    settle(machine, Qemu.probe(path))
    first = asked.stat().st_size
    settle(machine, Qemu.probe(path))
    assert asked.stat().st_size == first
    settle(machine, Qemu.probe(script(tmp_path, version="8.0.1")))
    assert asked.stat().st_size > first


def test_too_old(tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisite, match=r"is QEMU 7\.1\.9; the oldest supported is 7\.2"):
        Qemu.probe(script(tmp_path, version="7.1.9"))


def test_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingPrerequisite, match="/nonexistent is not an executable file"):
        Qemu.probe("/nonexistent")
    monkeypatch.setenv("QEMU", str(script(tmp_path)))
    assert Qemu.probe().version == (8, 0, 0)
    monkeypatch.delenv("QEMU")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(MissingPrerequisite, match="qemu-system-x86_64 is not in PATH") as caught:
        Qemu.probe()
    assert caught.value.hint == "apt-get install qemu-system-x86"


def test_no_qemu_at_all() -> None:
    with pytest.raises(UsageError, match="/bin/echo is no QEMU"):
        Qemu.probe("/bin/echo")


def test_accelerator_by_force_and_by_mistake(tmp_path: Path) -> None:
    qemu = Qemu.probe(script(tmp_path))
    accel = choose_accel("tcg", qemu, tmp_path / "kernel", lambda event: None)
    assert (accel.name, accel.reason) == ("tcg", "asked for")
    with pytest.raises(UsageError, match="accelerator 'xen': accepted are auto, kvm, tcg"):
        choose_accel("xen", qemu, tmp_path / "kernel", lambda event: None)
