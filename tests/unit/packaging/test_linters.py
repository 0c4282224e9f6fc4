# SPDX-License-Identifier: GPL-2.0-only
"""Linters accept the files for CI systems, of which most cannot run here: docs/nightly.md says which."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from harness.cli import cli
from harness.paths import TOP

DOCUMENT = TOP / "docs" / "nightly.md"
BLOCK = re.compile(r"^`([^`\n]+)`:\n```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)
"""A file in the document: its name, a colon, and its text in a block of code."""
BLOCKS = dict(BLOCK.findall(DOCUMENT.read_text()))
SCHEMAS = {
    ".github/workflows/vfio-nightly.yml": "vendor.github-workflows",
    ".github/workflows/vfio.yml": "vendor.github-workflows",
    ".gitlab-ci.yml": "vendor.gitlab-ci",
}
UNITS = ("vfio-harness-nightly.service", "vfio-harness-nightly.timer")

Lint = Callable[..., None]


@pytest.fixture
def lint() -> Lint:
    """Run a linter of the development environment, which must accept its arguments."""

    def run(program: str, *args: str | Path) -> None:
        path = Path(sys.executable).with_name(program)
        if not path.exists():
            pytest.skip(f"{program} is not installed: make deps installs it")
        accept([path, *args])

    return run


def accept(command: list[str | Path]) -> None:
    """Run a command, which must succeed."""
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_document_has_each_file() -> None:
    assert set(BLOCKS) == {*SCHEMAS, *UNITS}


def test_container(lint: Lint) -> None:
    lint("hadolint", "Containerfile")


def test_shell_scripts(lint: Lint) -> None:
    lint("shellcheck", *sorted((TOP / "packaging").glob("*.sh")), TOP / "harness" / "host" / "install-packages.sh")


def test_action(lint: Lint) -> None:
    lint("check-jsonschema", "--builtin-schema", "vendor.github-actions", "action.yml")


def flags_of(name: str) -> set[str]:
    command = cli.get_command(click.Context(cli), name)
    assert command, name
    return {flag for parameter in command.params for flag in parameter.opts}


def test_the_document_names_commands_and_options_that_exist() -> None:
    """Those of its files and of its text."""
    named = re.findall(
        r"(?:vfio-harness|container-entrypoint\.sh) ([a-z][a-z-]*)((?: [^\n`&|]*)?)", DOCUMENT.read_text()
    )
    assert {"nightly", "merge", "build", "run", "summary"} <= {name for name, _ in named}
    for name, rest in named:
        flags = flags_of(name)
        assert {*re.findall(r"--[a-z][a-z-]*", rest)} <= flags, f"{name}{rest}"
    arguments = re.findall(r"arguments: (--[a-z-]+)", DOCUMENT.read_text())
    assert arguments
    assert {*arguments} <= flags_of("run")


@pytest.mark.parametrize("name", SCHEMAS)
def test_pipelines(lint: Lint, tmp_path: Path, name: str) -> None:
    file = tmp_path / "pipeline.yml"
    file.write_text(BLOCKS[name])
    lint("check-jsonschema", "--builtin-schema", SCHEMAS[name], file)


def test_systemd_units(tmp_path: Path) -> None:
    """The program and the directory of the service are those of a user; here they are a stand-in's."""
    systemd = shutil.which("systemd-analyze")
    if systemd is None:
        pytest.skip("systemd-analyze is not installed: this host has no systemd")
    program = shutil.which("true")
    assert program
    for name in UNITS:
        text = BLOCKS[name].replace("%h/.local/bin/vfio-harness", program).replace("%h/nightly", str(tmp_path))
        (tmp_path / name).write_text(text)
    command = [systemd, "verify", "--man=no", *(tmp_path / name for name in UNITS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    # It also names units of the host, and gives 0 for an unknown key.
    assert not [line for line in done.stderr.splitlines() if "vfio-harness-nightly" in line]
    assert done.returncode == 0, done.stderr
