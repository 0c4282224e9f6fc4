# SPDX-License-Identifier: GPL-2.0-only
"""Test the choice of QEMU and accelerator, and a machine's properties. The QEMUs here are scripts that answer."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from harness.config import load_machine
from harness.errors import HarnessError, MissingPrerequisite, QemuTooOld, UsageError
from harness.progress import Note
from harness.vm import accel as accel_module
from harness.vm import debian_qemu
from harness.vm.accel import Trial, choose_accel
from harness.vm.qemu import Qemu, settle

ARM64 = "arm64-smmuv3"
"""A machine of another architecture than the default."""

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


def trial(qemu: Qemu) -> Trial:
    return Trial(qemu, qemu.path.with_name("kernel"), "EPYC")


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
def test_missing_type_or_property_is_named(tmp_path: Path, have: dict[str, list[str]], said: str) -> None:
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


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("/bin/true", r"'true \(GNU coreutils\) [\d.]+'"),
        ("/bin/cat", r"'cat \(GNU coreutils\) [\d.]+'"),
    ],
)
def test_program_that_is_not_qemu_is_named_in_one_line(program: str, said: str) -> None:
    with pytest.raises(UsageError, match=rf"^{program} is not a QEMU; its --version prints {said}$"):
        Qemu.probe(program)


def test_program_without_a_version_is_not_qemu(tmp_path: Path) -> None:
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\n")
    silent.chmod(0o755)
    with pytest.raises(UsageError, match=r"silent is not a QEMU; its --version prints nothing$"):
        Qemu.probe(silent)


@pytest.mark.parametrize(("version", "threads"), [("8.1.5", "single"), ("10.0.13", "single"), ("11.1.3", "multi")])
def test_tcg_has_threads_where_they_are_safe(tmp_path: Path, version: str, threads: str) -> None:
    qemu = Qemu.probe(script(tmp_path, version=version))
    assert choose_accel("tcg", trial(qemu), lambda event: None).option(qemu) == f"tcg,thread={threads}"


def test_accelerator_chosen_or_mistyped(tmp_path: Path) -> None:
    qemu = Qemu.probe(script(tmp_path))
    accel = choose_accel("tcg", trial(qemu), lambda event: None)
    assert (accel.name, accel.reason) == ("tcg", "chosen by the user")
    with pytest.raises(UsageError, match="unknown accelerator 'xen'; accepted are auto, kvm, tcg"):
        choose_accel("xen", trial(qemu), lambda event: None)


def test_kvm_that_does_not_open_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel_module, "KVM", tmp_path / "kvm")
    with pytest.raises(MissingPrerequisite, match=r"KVM cannot be used: .*/kvm: No such file") as caught:
        choose_accel("kvm", trial(Qemu.probe(script(tmp_path))), lambda event: None)
    assert caught.value.exit_code == 3
    assert "--accel tcg" in (caught.value.hint or "")


def test_kvm_that_opens_but_boots_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kvm").touch()
    monkeypatch.setattr(accel_module, "KVM", tmp_path / "kvm")
    qemu = Qemu.probe(script(tmp_path))  # it ends when it is to boot something
    with pytest.raises(MissingPrerequisite, match="KVM cannot be used: QEMU does not start with KVM: "):
        choose_accel("kvm", trial(qemu), lambda event: None)
    assert choose_accel("auto", trial(qemu), lambda event: None).name == "tcg"


@pytest.mark.parametrize(("needed", "enough"), [("7.2", True), ("8.0", True), ("8.0.1", False), ("10.1", False)])
def test_a_machine_may_need_a_newer_qemu(tmp_path: Path, needed: str, enough: bool) -> None:
    file = tmp_path / "newer.yaml"
    file.write_text(f'purpose: test\nextends: intel-iommu\nmin_qemu: "{needed}"\n')
    qemu = Qemu.probe(script(tmp_path))
    if enough:
        settle(load_machine(file), qemu)
        return
    with pytest.raises(QemuTooOld, match=rf"newer needs QEMU {needed} or later, and .* is 8\.0\.0") as caught:
        settle(load_machine(file), qemu)
    assert "QEMU=debian:" in str(caught.value.hint)


def in_path(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the shell find ``program`` as QEMU."""
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    (program.parent / "qemu-system-x86_64").symlink_to(program)


def test_a_machine_runs_on_its_own_qemu_unless_another_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    own, other = script(tmp_path, version="9.0.0"), script(tmp_path / "other")
    file = tmp_path / "own.yaml"
    file.write_text(f"purpose: test\nextends: intel-iommu\nqemu: {own}\n")
    machine = load_machine(file)
    assert Qemu.for_machine(machine).path == own
    assert Qemu.for_machine(machine, other).path == other
    monkeypatch.setenv("QEMU", str(other))
    assert Qemu.for_machine(machine).path == other
    monkeypatch.delenv("QEMU")
    in_path(other, monkeypatch)
    assert Qemu.for_machine(load_machine("intel-iommu")).path == other


def test_a_qemu_that_cannot_be_fetched_leaves_the_one_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*args: object) -> Path:
        raise HarnessError("apt-get failed")

    host = script(tmp_path)
    monkeypatch.setattr(debian_qemu, "obtain", unreachable)
    in_path(host, monkeypatch)
    monkeypatch.delenv("QEMU", raising=False)
    machine = load_machine("vfio-user")
    said: list[object] = []
    assert Qemu.for_machine(machine, None, said.append).path == host
    assert said == [Note("apt-get failed; vfio-user cannot run on its own QEMU, debian:11.1")]
    with pytest.raises(HarnessError, match="apt-get failed"):
        Qemu.for_machine(machine, "debian:11.1")


def test_kvm_does_not_run_another_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu = Qemu.probe(script(tmp_path))
    monkeypatch.setattr(accel_module.platform, "machine", lambda: "x86_64")
    accel = choose_accel("auto", replace(trial(qemu), arch="arm64"), lambda event: None)
    assert (accel.name, accel.reason) == ("tcg", "KVM of a x86_64 host does not run arm64")
    assert accel.clock("arm64") == []
    with pytest.raises(MissingPrerequisite, match="does not run arm64"):
        choose_accel("kvm", replace(trial(qemu), arch="arm64"), lambda event: None)
    monkeypatch.setattr(accel_module.platform, "machine", lambda: "aarch64")
    assert choose_accel("auto", replace(trial(qemu), arch="arm64"), lambda event: None).name == "tcg"


def test_a_machine_of_another_architecture_runs_on_its_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = script(tmp_path).rename(tmp_path / "qemu-system-aarch64")
    monkeypatch.delenv("QEMU", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert Qemu.for_machine(load_machine(ARM64)).path == program
