# SPDX-License-Identifier: GPL-2.0-only
"""KVM that works, one that opens and boots nothing, and none.

The first is that of an emulated machine, since few hosts have one: docs/kvm.md. A host whose KVM boots nothing is
refused before the first case.
"""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from commandline import GONE_S, CommandLine

from harness.config import DEFAULT_MACHINE, load_machine
from harness.kernel import Kernel
from harness.progress import silent
from harness.vm import Qemu, Trial, choose_accel

SECONDS = 40.0
"""The probe's 5 s and 10 s, and what else a run does before its first boot, on a busy host."""
EMULATED_S = 660.0
"""The deadline of ``kvm-test --short``, and what it does before. It needs 2 minutes on an idle host."""
WITHOUT_KVM = """\
#!/bin/sh
# Run the program with a /dev of its own, which has all but kvm.
exec unshare --map-root-user --mount sh -ec '
mount -t tmpfs none "$0"
for found in /dev/*; do
    copy=$0/${found#/dev/}
    if [ "$found" = /dev/kvm ]; then continue
    elif [ -h "$found" ]; then cp -P "$found" "$copy"; continue
    elif [ -d "$found" ]; then mkdir "$copy"
    else touch "$copy"; fi
    mount --rbind "$found" "$copy"
done
mount --rbind "$0" /dev
exec "$@"' DEV PROGRAM "$@"
"""


def test_forced_kvm_that_boots_nothing_is_refused(harness: CommandLine, default_kernel: Kernel) -> None:
    trial = Trial(Qemu.probe(), default_kernel.image, load_machine(DEFAULT_MACHINE).cpu)
    if choose_accel("auto", trial, silent).name == "kvm":
        pytest.skip("KVM works on this host")
    began = time.monotonic()
    outcome = harness("run", "--accel", "kvm", "-k", "test_doorbell_reaches_the_controller")
    assert time.monotonic() - began < SECONDS
    assert outcome.code == 3
    assert "error: this host's KVM cannot be used: " in outcome.output
    assert not outcome.reports()


def test_an_emulated_kvm_that_is_not_chosen_is_refused(harness: CommandLine) -> None:
    """``kvm-test`` runs nothing under TCG, which would take its whole time."""
    outcome = harness("run", "--accel", "tcg", "--emulated-kvm")
    assert outcome.code == 3
    assert "error: this run needs KVM, but would use TCG: chosen by the user" in outcome.output
    assert not outcome.reports()


@pytest.fixture
def without_kvm(harness: CommandLine, tmp_path: Path) -> CommandLine:
    """Return the command line on a host without /dev/kvm."""
    (tmp_path / "dev").mkdir()
    script = tmp_path / "without-kvm"
    script.write_text(WITHOUT_KVM.replace("DEV", str(tmp_path / "dev")).replace("PROGRAM", str(harness.program)))
    script.chmod(0o755)
    mount = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", str(tmp_path / "dev")]
    tried = subprocess.run(mount, check=False, capture_output=True)
    if tried.returncode:
        pytest.skip(f"this host lets its users mount nothing: {tried.stderr.decode().strip()}")
    harness.program = script
    return harness


def test_without_kvm_a_run_uses_tcg_and_says_why(without_kvm: CommandLine) -> None:
    outcome = without_kvm("run", "-k", "test_doorbell_reaches_the_controller and iommufd and edu")
    assert outcome.code == 0, outcome.output
    host = json.loads((outcome.results / "latest" / "report.json").read_text())["host"]
    assert (host["accel"], host["accel_reason"]) == ("tcg", "/dev/kvm: No such file or directory")
    assert set(outcome.verdicts().values()) == {"PASS"}


def test_without_kvm_to_force_it_is_refused(without_kvm: CommandLine) -> None:
    outcome = without_kvm("run", "--accel", "kvm")
    assert outcome.code == 3
    assert "error: this host's KVM cannot be used: /dev/kvm: No such file or directory" in outcome.output
    assert not outcome.reports()


def test_a_kvm_that_works_is_chosen_and_runs_cases(harness: CommandLine) -> None:
    """In an emulated machine, where the harness chooses by itself."""
    harness.deadline_s = EMULATED_S
    outcome = harness("kvm-test", "--short")
    assert outcome.code == 0, outcome.output
    found = json.loads((outcome.results / "latest" / "report.json").read_text())
    assert found["host"]["accel"] == "kvm"
    assert found["host"]["accel_reason"] == "a kernel has booted under it"
    assert [case["verdict"] for case in found["cases"]] == ["PASS", "PASS"]
    assert {case["id"].partition("::")[0] for case in found["cases"]} == {"test_doorbell", "test_revoke"}


def test_nothing_is_left_of_an_interrupted_emulated_machine(harness: CommandLine) -> None:
    with harness.start("kvm-test", "--short") as running:
        running.wait_until("the outer machine", lambda: any(harness.results.glob("*/outer-1/console.log")))
        os.killpg(running.process.pid, signal.SIGINT)
        assert running.seconds_until_gone() <= GONE_S
        assert running.process.returncode == 130
    harness.assert_nothing_left()
    assert not list(harness.results.glob("*/outer-1/initrd"))
