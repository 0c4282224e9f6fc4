# SPDX-License-Identifier: GPL-2.0-only
"""The probe of KVM: how long a kernel may be silent, and whose fault it is."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Self, cast

import pytest

from harness.config import load_machine
from harness.errors import LaunchError, MissingPrerequisite, UsageError
from harness.progress import silent
from harness.vm import accel
from harness.vm.accel import BOOTED, Trial, _wait_booted, choose_accel
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


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    """Return a trial of a KVM that opens."""
    monkeypatch.setattr(accel, "KVM", tmp_path / "kvm")
    monkeypatch.setattr(accel, "PROBE_S", FIRST)
    monkeypatch.setattr(accel, "QUIET_S", QUIET)
    monkeypatch.setenv("VFIO_HARNESS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "kvm").touch()
    qemu = cast(Qemu, SimpleNamespace(path=Path("/qemu"), identity=lambda: "0" * 64))
    return Trial(qemu, Path("/kernel"), "EPYC")


def test_a_slow_start_of_qemu_gives_the_kernel_more_time(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel, "Instance", SlowQemu)
    monkeypatch.setattr(accel, "PROBE_S", 0.1)
    trial = replace(trial, cpu="EPYC,-xsave")
    assert choose_accel("auto", trial, silent).name == "kvm"
    monkeypatch.delattr(accel, "Instance")
    assert choose_accel("auto", trial, silent).name == "kvm", "remembered"


BY_RESET = Event("SHUTDOWN", {"guest": True, "reason": "guest-reset"})
"""How QEMU ends if its guest resets and it has ``-no-reboot``."""
INTERNAL_ERROR = Event("STOP", {})


class Boots:
    """Stands in for ``Instance``: each boot ends with the next of ``ends``, and the last of them again.

    An end is an event of QEMU, a text on the console, or an error of QEMU's start. ``said``: printed before it.
    """

    process = None

    def __init__(self, *ends: Event | bytes | Exception, said: bytes = b"") -> None:
        self.ends, self.said, self.count = ends, said, 0

    def __call__(self, files: Files, on_event: Callable[[Event], None]) -> Self:
        self._console, self._on_event = files.console, on_event
        return self

    def start(self, command: Sequence[str]) -> None:
        assert "-no-reboot" in command
        self.count += 1
        end = self.ends[min(self.count, len(self.ends)) - 1]
        self._console.write_bytes(self.said + end if isinstance(end, bytes) else self.said)
        if isinstance(end, Event):
            self._on_event(end)
        if isinstance(end, Exception):
            raise end

    def close(self) -> None:
        pass


NO_START = LaunchError("QEMU did not start\nno such CPU")


@pytest.mark.parametrize(
    ("ends", "said", "emulated", "expected"),
    [
        ((BY_RESET, INTERNAL_ERROR, BOOTED), b"", True, ("kvm", 3)),
        ((BY_RESET, BOOTED), b"", False, ("tcg", 1)),
        ((INTERNAL_ERROR,), LINE, False, ("tcg", 1)),
        ((BY_RESET,), LINE, True, ("kvm", 3)),  # the kernel may be at fault: the run judges it
        ((b"",), LINE, True, ("kvm", 1)),
    ],
)
def test_a_guest_that_does_not_boot(
    trial: Trial,
    monkeypatch: pytest.MonkeyPatch,
    *,
    ends: tuple[Event | bytes, ...],
    said: bytes,
    emulated: bool,
    expected: tuple[str, int],
) -> None:
    boots = Boots(*ends, said=said)
    monkeypatch.setattr(accel, "Instance", boots)
    chosen = choose_accel("auto", replace(trial, emulated=emulated), silent)
    assert (chosen.name, boots.count) == expected
    assert chosen.emulated == emulated


def test_a_kernel_that_resets_the_machine_is_judged_by_a_run_with_kvm(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accel, "Instance", Boots(BY_RESET, said=LINE))
    assert choose_accel("auto", trial, silent).name == "tcg"
    assert choose_accel("kvm", trial, silent).name == "kvm"


@pytest.mark.parametrize(
    ("end", "boots", "reason"),
    [(INTERNAL_ERROR, 3, "no kernel boots under it"), (NO_START, 1, "QEMU does not start with KVM: no such CPU")],
)
def test_a_run_that_needs_kvm_ends_without_it(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, end: Event | Exception, boots: int, reason: str
) -> None:
    seen = Boots(end)
    monkeypatch.setattr(accel, "Instance", seen)
    with pytest.raises(MissingPrerequisite, match=f"this run needs KVM, but would use TCG: .*{reason}"):
        choose_accel("auto", replace(trial, emulated=True), silent)
    assert seen.count == boots


def test_what_is_known_of_the_hosts_kvm_says_nothing_of_an_emulated_one(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accel, "Instance", Boots(INTERNAL_ERROR))
    assert choose_accel("auto", trial, silent).name == "tcg"
    monkeypatch.setattr(accel, "Instance", Boots(BOOTED))
    assert choose_accel("auto", replace(trial, emulated=True), silent).name == "kvm"
    assert choose_accel("auto", trial, silent).name == "tcg", "remembered"


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
