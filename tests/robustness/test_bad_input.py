# SPDX-License-Identifier: GPL-2.0-only
"""Wrong arguments and files, and missing programs: one clear message, the right exit code, nothing left behind."""

import re
from pathlib import Path

import pytest
from commandline import CASES, CommandLine, Finished
from copies import overlay

from harness.kernel import Kernel
from harness.paths import VM_CONFIGS

GOOD = (VM_CONFIGS / "intel-iommu.yaml").read_text()


def message(outcome: Finished) -> str:
    """Return the error message. It is printed once, and last."""
    _, *errors = re.split("^error: ", outcome.output, flags=re.M)
    assert len(errors) == 1, outcome.output
    return errors[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(GOOD.replace("vcpus: 2", "vcpus: [2"), "mine.yaml:", id="malformed"),
        pytest.param(GOOD + "memroy_mib: 5\n", "unknown key; did you mean 'memory_mib'? Accepted: ", id="unknown key"),
        pytest.param(GOOD.replace("type: edu", "type: edo"), "no 'edo'", id="unknown device"),
        pytest.param(GOOD.replace("vcpus: 2", "vcpus: many"), "vcpus", id="not a number"),
        pytest.param("", "must be a mapping with the keys", id="empty"),
    ],
)
@pytest.mark.parametrize("focus", [[], ["--focus"]], ids=["", "focus"])
def test_bad_machine_file(harness: CommandLine, tmp_path: Path, focus: list[str], text: str, expected: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    outcome = harness("run", "--machine", file, *focus)
    assert outcome.code == 2
    assert str(file) in message(outcome)
    assert expected in message(outcome)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["run", "--machine", "intel-immu"], ["intel-immu", "did you mean 'intel-iommu'?"]),
        (["run", "--kernel", "/nowhere"], ["KERNEL=/nowhere", "no such directory", "debian:VERSION"]),
        (["run", "--kernel", "/usr"], ["KERNEL=/usr", "neither a kernel source tree", "nor a build"]),
        (["run", "--kernel", "debian:0.1"], ["0.1"]),
        (["run", "--flavour", "vanilla"], ["vanilla", "release", "debug"]),
        (["run", "-k", "no_such_case"], ["no_such_case"]),
        (["run", "-k", "not and or"], ["not and or"]),
        (["run", "/nowhere.py"], ["/nowhere.py"]),
        (["shell", "--machine", "intel-immu"], ["intel-immu"]),
        (["walk"], ["walk"]),
    ],
    ids=lambda value: " ".join(value[:3]) if value[0] in ("run", "shell", "walk") else "",
)
def test_bad_argument(harness: CommandLine, args: list[str], expected: list[str]) -> None:
    outcome = harness(*args)
    assert outcome.code == 2
    for word in expected:
        assert word in outcome.output
    assert outcome.output.lower().count("error:") == 1
    assert not outcome.reports()


def test_directory_without_cases(harness: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    outcome = harness("run", tmp_path / "mine")
    assert outcome.code == 2
    assert "no case" in message(outcome)


@pytest.mark.parametrize(
    ("qemu", "code", "expected"),
    [
        pytest.param("/nowhere/qemu", 3, "/nowhere/qemu is not an executable file", id="missing"),
        pytest.param("/bin/echo", 2, "/bin/echo is not a QEMU; its --version prints", id="not a QEMU"),
        pytest.param("/bin/false", 3, "/bin/false --version failed with 1", id="fails"),
        pytest.param("/etc/passwd", 3, "/etc/passwd is not an executable file", id="not executable"),
    ],
)
def test_bad_qemu(harness: CommandLine, qemu: str, code: int, expected: str) -> None:
    outcome = harness("run", "--qemu", qemu)
    assert outcome.code == code
    assert expected in message(outcome)


def test_no_qemu_in_path(harness: CommandLine, tmp_path: Path) -> None:
    harness.env["PATH"] = str(tmp_path / "bin")
    outcome = harness("run")
    assert outcome.code == 3
    assert "qemu-system-x86_64 is not in PATH" in message(outcome)
    assert "apt-get install qemu-system-x86" in message(outcome)


def test_tree_that_does_not_compile(harness: CommandLine, default_kernel: Kernel, tmp_path: Path) -> None:
    """The message quotes the compiler's first error, with file and line. The tree stays untouched."""
    assert default_kernel.source_dir
    overlay(default_kernel.source_dir, tree := tmp_path / "linux", "kernel/bounds.c")
    text = (tree / "kernel/bounds.c").read_text()
    (tree / "kernel/bounds.c").write_text(text + "int broken = ;\n")
    line = text.count("\n") + 1
    harness.env["VFIO_HARNESS_CACHE"] = str(tmp_path / "cache")
    outcome = harness("run", "--kernel", tree)
    assert outcome.code == 1
    assert f"kernel/bounds.c:{line}:" in message(outcome)
    assert "expected expression" in message(outcome)
    assert not list(tree.glob(".config"))


# Cases


def test_case_file_that_cannot_be_read(harness: CommandLine) -> None:
    outcome = harness("run", CASES / "unreadable.py")
    assert outcome.code == 3
    assert "unreadable.py" in message(outcome)
    assert "no_such_module" in message(outcome)
    assert not outcome.reports()
