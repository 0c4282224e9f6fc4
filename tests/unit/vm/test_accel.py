# SPDX-License-Identifier: GPL-2.0-only
"""The probe of KVM: how long a kernel may be silent, and whose fault it is."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from harness.config import load_machine
from harness.errors import MissingPrerequisite, UsageError
from harness.progress import silent
from harness.vm import accel
from harness.vm.accel import BOOTED, EMULATED_TRIES, Trial, _wait_booted, choose_accel
from harness.vm.console import Console
from harness.vm.instance import Files
from harness.vm.qemu import Qemu
from harness.vm.qmp import Event

LINE = b"a line of the kernel\n"
FIRST, QUIET = 0.2, 0.4


def wait(tmp_path: Path, printed: Sequence[tuple[float, bytes]]) -> accel._Fault | None:
    """Wait for a kernel that prints these texts, each so many seconds after the one before."""
    path = tmp_path / "console"
    path.touch()

    def kernel() -> None:
        for pause, text in printed:
            time.sleep(pause)
            with path.open("ab") as file:
                file.write(text)

    thread = threading.Thread(target=kernel)
    thread.start()
    try:
        return _wait_booted(Console(path, lambda: None), FIRST, QUIET)
    finally:
        thread.join()


def test_a_silent_kernel_shows_that_kvm_does_not_work(tmp_path: Path) -> None:
    fault = wait(tmp_path, [])
    assert fault
    assert fault.certain
    assert "no kernel boots under it within" in fault.reason


def test_a_slow_kernel_that_prints_boots(tmp_path: Path) -> None:
    assert wait(tmp_path, [(0.1, LINE), *[(0.2, LINE)] * 4, (0.2, BOOTED)]) is None


def test_a_kernel_that_stops_printing_may_be_at_fault_itself(tmp_path: Path) -> None:
    fault = wait(tmp_path, [(0.0, LINE), (0.1, LINE)])
    assert fault
    assert not fault.certain


def test_a_kernel_that_prints_forever_is_not_awaited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel, "BOOT_S", 0.5)
    fault = wait(tmp_path, [(0.15, LINE)] * 12)
    assert fault
    assert not fault.certain


class SlowQemu:
    """A QEMU that takes 0.2 s to start, and whose kernel prints its first line after 0.4 s more."""

    process = None

    def __init__(self, files: Files, on_event: object) -> None:
        self._console = files.console

    def start(self, command: Sequence[str]) -> None:
        assert command[command.index("-cpu") + 1] == "EPYC,-xsave"
        time.sleep(0.2)
        self._kernel = threading.Timer(0.4, lambda: self._console.write_bytes(LINE + BOOTED))
        self._kernel.start()

    def close(self) -> None:
        self._kernel.join()


def test_a_slow_start_of_qemu_gives_the_kernel_more_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel, "Instance", SlowQemu)
    monkeypatch.setattr(accel, "KVM", tmp_path / "kvm")
    monkeypatch.setattr(accel, "PROBE_S", 0.1)
    monkeypatch.setenv("VFIO_HARNESS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "kvm").touch()
    qemu = cast(Qemu, SimpleNamespace(path=Path("/qemu"), identity=lambda: "0" * 64))
    trial = Trial(qemu, Path("/kernel"), "EPYC,-xsave")
    assert choose_accel("auto", trial, silent).name == "kvm"
    monkeypatch.delattr(accel, "Instance")
    assert choose_accel("auto", trial, silent).name == "kvm", "remembered"


class ResettingQemu:
    """A QEMU whose guest resets in the first two boots: an emulated KVM does that."""

    boots = 0
    process = None

    def __init__(self, files: Files, on_event: Callable[[Event], None]) -> None:
        self._console, self._on_event = files.console, on_event

    def start(self, command: Sequence[str]) -> None:
        ResettingQemu.boots += 1
        if ResettingQemu.boots < EMULATED_TRIES:
            self._console.touch()
            self._on_event(Event("SHUTDOWN", {}))
        else:
            self._console.write_bytes(LINE + BOOTED)

    def close(self) -> None:
        pass


@pytest.fixture
def resetting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    """Try a KVM, which is no emulated one unless the test says so, whose guest resets."""
    ResettingQemu.boots = 0
    monkeypatch.setattr(accel, "Instance", ResettingQemu)
    monkeypatch.setattr(accel, "KVM", tmp_path / "kvm")
    monkeypatch.setenv("VFIO_HARNESS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "kvm").touch()
    qemu = cast(Qemu, SimpleNamespace(path=Path("/qemu"), identity=lambda: "0" * 64))
    return Trial(qemu, Path("/kernel"), "EPYC")


def test_an_emulated_kvm_may_reset_its_guest(resetting: Trial) -> None:
    chosen = choose_accel("auto", replace(resetting, emulated=True), silent)
    assert (chosen.name, chosen.emulated, ResettingQemu.boots) == ("kvm", True, EMULATED_TRIES)


def test_the_hosts_kvm_may_not(resetting: Trial) -> None:
    chosen = choose_accel("auto", resetting, silent)
    assert (chosen.name, chosen.emulated, ResettingQemu.boots) == ("tcg", False, 1)


def test_an_emulated_kvm_must_be_chosen(resetting: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel, "EMULATED_TRIES", 1)
    with pytest.raises(MissingPrerequisite, match="the emulated KVM is not used: KVM opens, but no kernel boots"):
        choose_accel("auto", replace(resetting, emulated=True), silent)


def test_features_change_the_cpu_of_a_machine_and_its_peer() -> None:
    machine = load_machine("roce-pair")
    changed = machine.with_cpu_features("-xsave,+avx")
    assert changed.cpu == f"{machine.cpu},-xsave,+avx"
    peer = changed.peer_machine()
    assert peer
    assert peer.cpu == changed.cpu
    assert (changed.name, changed.path) == (machine.name, machine.path)
    assert machine.with_cpu_features("") is machine


@pytest.mark.parametrize("text", ["xsave", "-xsave,", "-xsave -avx", "-smp,8", "host", "-xsave,enforce"])
def test_a_malformed_list_of_cpu_features_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a list of CPU features"):
        load_machine("intel-iommu").with_cpu_features(text)
