# SPDX-License-Identifier: GPL-2.0-only
"""Each template, as ``vfio-harness new`` writes it, is accepted by the tool that reads it."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness import paths
from harness.bugs import load_bug
from harness.cases.contract import collect, contract, join
from harness.cli import cli
from harness.commands.new import KINDS, create
from harness.config import load_machine
from harness.errors import HarnessError, UsageError

BIN = Path(sys.executable).parent


@pytest.fixture(autouse=True)
def directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let new files go to a directory of the test's own."""
    monkeypatch.setattr(paths, "VM_CASES", tmp_path)
    monkeypatch.setenv("VFIO_HARNESS_BUGS", str(tmp_path))
    return tmp_path


@pytest.fixture
def machines(directories: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the machine that the template extends."""
    (directories / "intel-iommu.yaml").write_text((paths.VM_CONFIGS / "intel-iommu.yaml").read_text())
    monkeypatch.setattr(paths, "VM_CONFIGS", directories)
    return directories


def test_case_passes_ruff_and_mypy() -> None:
    made = create("case", "my-rule")
    for command in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]):
        config = ["--config" if command[0] == "ruff" else "--config-file", str(paths.TOP / "pyproject.toml")]
        done = subprocess.run(
            [BIN / command[0], *command[1:], *config, made.path],
            cwd=paths.TOP,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_case_collects_with_each_importer_and_names_known_rows() -> None:
    made = create("case", "my-rule")
    cases = collect(made.path)
    assert {case.id.partition("[")[0] for case in cases} == {"test_my_rule::test_my_rule"}
    assert len(cases) > 1
    join(contract(), cases)


def test_machine_loads(machines: Path) -> None:
    made = create("machine", "my-machine")
    machine = load_machine("my-machine")
    assert machine.path == made.path
    assert machine.with_role("under-test")
    assert "cmb_size_mb" not in machine.device("nvme0").properties
    assert set(machine.rows) <= contract().keys()


def test_bug_loads() -> None:
    made = create("bug", "my-bug")
    entry = load_bug("my-bug")
    assert entry.path == made.path
    assert entry.mutation


@pytest.mark.parametrize("kind", KINDS)
def test_names_the_file_and_the_next_step(kind: str, machines: Path) -> None:
    text = str(create(kind, "my-own"))
    assert text.startswith(f"wrote {machines}/")
    assert "\nnext: " in text
    assert "$" not in text


@pytest.mark.parametrize("kind", KINDS)
def test_does_not_overwrite(kind: str, machines: Path) -> None:
    made = create(kind, "my-own")
    made.path.write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        create(kind, "my-own")
    assert made.path.read_text() == "mine"


@pytest.mark.parametrize("name", ["", "My-Name", "1st", "a--b", "a-", "../escape", "a/b", "a.b", "x" * 31])
def test_refuses_a_malformed_name(name: str, directories: Path) -> None:
    with pytest.raises(UsageError, match="is not a name for a bug"):
        create("bug", name)
    assert not list(directories.iterdir())


def test_says_why_the_file_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFIO_HARNESS_BUGS", "/nowhere")
    with pytest.raises(HarnessError, match=r"/nowhere/my-bug\.yaml: No such file"):
        create("bug", "my-bug")


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        ("case", "next: vfio-harness run test_my_own.py"),
        ("machine", "next: vfio-harness run --machine ./my-own.yaml -k doorbell"),
        ("bug", "next: vfio-harness bugs check my-own"),
    ],
)
def test_writes_into_the_current_directory_without_a_checkout(
    kind: str, step: str, directories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files in the wheel's directory would go with its next upgrade."""
    wheel = directories / "wheel"
    monkeypatch.setattr(paths, "INSTALLED", True)
    for name, path in (("TOP", wheel), ("VM_CASES", wheel / "tests" / "vm"), ("VM_CONFIGS", wheel / "vm-configs")):
        monkeypatch.setattr(paths, name, path)
    monkeypatch.delenv("VFIO_HARNESS_BUGS")
    monkeypatch.chdir(directories)
    made = create(kind, "my-own")
    assert made.path.parent == directories
    assert step in str(made)
    monkeypatch.setenv("VFIO_HARNESS_BUGS", str(directories / "bugs"))
    (directories / "bugs").mkdir()
    assert create("bug", "my-other").path == directories / "bugs" / "my-other.yaml"


def test_command_prints_what_it_wrote(directories: Path) -> None:
    done = CliRunner().invoke(cli, ["new", "bug", "my-bug"])
    assert done.exit_code == 0
    assert done.output.startswith(f"wrote {directories}/my-bug.yaml\nnext: ")


def test_command_takes_no_other_kind() -> None:
    done = CliRunner().invoke(cli, ["new", "witness", "my-own"])
    assert done.exit_code == 2
    assert "'case', 'machine', 'bug'" in done.output
