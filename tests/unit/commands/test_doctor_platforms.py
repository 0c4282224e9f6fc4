# SPDX-License-Identifier: GPL-2.0-only
"""The platforms of the doctor: each names what it needs, and a missing one has a fix and is optional."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from harness import config
from harness.commands import doctor_platforms as platforms
from harness.commands.doctor_finding import Finding
from harness.run.options import Options

CLOSED = "/dev/kvm: No such file or directory"
DENIED = "/dev/kvm: Permission denied"


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A host with an empty cache, a QEMU 7.2 and a KVM that opens. Returns the cache."""
    monkeypatch.delenv("QEMU", raising=False)
    monkeypatch.setenv("VFIO_HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr(platforms, "kvm_state", lambda: None)
    monkeypatch.setattr(platforms, "remembered", lambda qemu, cpu: "")
    monkeypatch.setattr(platforms.vm.Qemu, "probe", fake_qemu)
    return tmp_path


def fake_qemu(path: str | None = None, arch: str = "x86_64") -> SimpleNamespace:
    """Return a QEMU of the version in the name of its directory; 7.2 without one. It has 9p from 10.0 on."""
    version = Path(path).parent.name.partition("_")[0] if path else "7.2.22"
    numbers = tuple(map(int, version.split(".")))
    types = {"virtio-9p-pci": frozenset[str]()} if numbers >= (10, 0) else {}
    return SimpleNamespace(path=path or "/usr/bin/qemu", version=numbers, properties=lambda wanted: types)


def fetch(cache: Path, version: str) -> None:
    """Put a QEMU of Debian into the cache."""
    directory = cache / "qemu" / "debian" / f"{version}_{version}+ds-1_trixie"
    directory.mkdir(parents=True)
    (directory / "qemu-system-x86_64").touch()


def missing(finding: Finding, problem: str, fix: str) -> bool:
    return problem in finding.problem and fix in (finding.fix or "") and finding.optional


@pytest.mark.parametrize(
    ("state", "known", "problem", "fix"),
    [
        (CLOSED, None, CLOSED, "modprobe kvm_amd or kvm_intel"),
        (DENIED, None, DENIED, "usermod -aG kvm"),
        (None, "no kernel boots under it", "no kernel boots under it", "kvm-test"),
    ],
)
def test_a_kvm_that_does_not_work_is_missing(
    monkeypatch: pytest.MonkeyPatch, state: str | None, known: str | None, problem: str, fix: str
) -> None:
    monkeypatch.setattr(platforms, "kvm_state", lambda: state)
    monkeypatch.setattr(platforms, "remembered", lambda qemu, cpu: known)
    assert missing(platforms.kvm_finding(Options()), problem, fix)


@pytest.mark.parametrize(("known", "said"), [("", False), (None, True)])
def test_a_kvm_that_nothing_has_tried_says_so(monkeypatch: pytest.MonkeyPatch, known: str | None, said: bool) -> None:
    monkeypatch.setattr(platforms, "remembered", lambda qemu, cpu: known)
    found = platforms.kvm_finding(Options())
    assert not found.problem
    assert ("the first run tries one" in found.name) is said


def test_kvm_test_needs_a_qemu_with_9p(host: Path) -> None:
    assert missing(platforms.kvm_test_finding(Options()), "not in the cache", "doctor --qemu debian:11.1")
    fetch(host, "11.1.3")
    assert not platforms.kvm_test_finding(Options()).problem
    found = platforms.kvm_test_finding(Options(qemu="/opt/7.2.0/qemu"))
    assert missing(found, "/opt/7.2.0/qemu has no virtio-9p-pci", "QEMU=debian:11.1")


def test_a_qemu_of_the_plan_is_missing_until_it_is_fetched(host: Path) -> None:
    fetch(host, "11.1.3")
    fetch(host, "10.1.0")
    assert missing(platforms.qemu_finding("debian:10.0"), "not in the cache", "vfio-harness doctor --qemu debian:10.0")
    assert not platforms.qemu_finding("debian:11.1").problem


def test_another_architecture_needs_its_qemu_and_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = next(name for name, each in config.architectures().items() if not each.is_native)
    monkeypatch.setattr(platforms, "find", lambda program: None if "gcc" in program else f"/usr/bin/{program}")
    found = platforms.arch_finding(foreign)
    compiler = config.architecture(foreign).tool("gcc")
    assert compiler in found.name
    assert missing(found, f"not installed: {compiler}", "apt-get install gcc-")


def test_a_machine_with_a_qemu_of_its_own(host: Path) -> None:
    machine = config.load_machine("vfio-user")
    assert missing(platforms.machine_finding(machine, Options()), "debian:11.1: it is not", "doctor --qemu debian:11.1")
    found = platforms.machine_finding(machine, Options(qemu="/opt/10.0.2/qemu"))
    assert missing(found, "10.0.2", "")


def test_every_platform_is_named_and_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platforms, "find", lambda program: None)
    monkeypatch.setattr(platforms, "kvm_state", lambda: CLOSED)
    found = [*platforms.platform_findings(Options())]
    for name in ("KVM:", "KVM in an emulated machine", "QEMU=debian:10.0", "QEMU=debian:11.1", "vfio-user"):
        assert any(each.name.startswith(f"platform {name}") for each in found), name
    assert all(each.optional and each.fix for each in found if each.problem)
