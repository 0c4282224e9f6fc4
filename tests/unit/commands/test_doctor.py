# SPDX-License-Identifier: GPL-2.0-only
"""The doctor: what is missing is named once with its fix, and only what is needed makes the host bad."""

import io

import pytest
from click.testing import CliRunner
from rich.console import Console

from harness.cli import cli
from harness.commands import doctor
from harness.commands.doctor import findings, report
from harness.commands.doctor_finding import Finding
from harness.config import architecture
from harness.errors import MissingPrerequisite, UsageError
from harness.host.packages import Prerequisite
from harness.run.options import Options

GOOD = Finding("make")
NEEDED = Finding("gcc", "not installed", "apt-get install gcc")
OPTIONAL = Finding("b4", "not installed (optional: SERIES= by a message-id)", "apt-get install b4", optional=True)
MISLEADING = Finding("x", "an option is not optional", None)


def shown(*found: Finding) -> tuple[int, list[str]]:
    out = io.StringIO()
    code = report(iter(found), Console(file=out, width=200, highlight=False, markup=False, soft_wrap=True))
    return code, out.getvalue().splitlines()


@pytest.mark.parametrize(
    ("found", "code"),
    [((GOOD,), 0), ((GOOD, OPTIONAL), 0), ((GOOD, NEEDED), 3), ((OPTIONAL, NEEDED), 3), ((MISLEADING,), 3)],
)
def test_only_what_is_needed_makes_the_host_bad(found: tuple[Finding, ...], code: int) -> None:
    assert shown(*found)[0] == code


def test_what_is_missing_comes_with_its_fix() -> None:
    assert shown(GOOD, NEEDED)[1] == [
        "ok      make",
        "missing gcc: not installed",
        "        fix: apt-get install gcc",
    ]


def test_each_name_is_shown_once() -> None:
    assert shown(GOOD, GOOD, Finding("make", "missing")) == (3, ["missing make: missing"])


def test_an_unknown_machine_is_an_error() -> None:
    with pytest.raises(UsageError, match="no-such-machine"):
        CliRunner().invoke(cli, ["doctor", "--machine", "no-such-machine"], catch_exceptions=False)


def test_findings_are_those_of_the_vm_and_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = MissingPrerequisite("no QEMU", hint="apt-get install qemu-system-x86")
    monkeypatch.setattr(doctor.vm, "prerequisites", lambda qemu, emit, arch: iter([("QEMU", broken)]))
    host = [Prerequisite("gcc", "gcc", False, ""), Prerequisite("b4", "b4", False, "SERIES= by a message-id")]
    monkeypatch.setattr(doctor, "prerequisites", lambda foreign: [] if foreign else host)
    monkeypatch.setattr(doctor, "platform_findings", lambda options: iter([GOOD]))
    assert list(findings(Options())) == [
        Finding("QEMU", "no QEMU", "apt-get install qemu-system-x86"),
        GOOD,
        NEEDED,
        OPTIONAL,
    ]


def test_a_machine_of_another_architecture_needs_its_cross_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(doctor.vm, "prerequisites", lambda qemu, emit, arch: iter([(arch, None)]))
    monkeypatch.setattr(doctor, "prerequisites", lambda foreign: asked.append(foreign) or [])
    monkeypatch.setattr(doctor, "platform_findings", lambda options: iter([GOOD]))
    assert list(findings(Options(machine="arm64-smmuv3"))) == [Finding("arm64"), GOOD]
    assert asked == ["" if architecture("arm64").is_native else "arm64"]
