# SPDX-License-Identifier: GPL-2.0-only
"""The wheel holds the data, and works outside a checkout. Building it needs hatchling, but no network.

The environment of the test is empty but for the wheel. Its dependencies are those of this interpreter, through a .pth
file, which does not make an editable install visible. tests/robustness/test_wheel.py has pip fetch them.
"""

import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.paths import TOP

TREES = {
    "harness": "harness",
    "vm-configs": "harness/data/vm-configs",
    "guest-images": "harness/data/guest-images",
    "tests/vm": "harness/data/tests/vm",
}
"""Each directory that the harness reads, and its place in the wheel."""
KEYS = """
import json
from pathlib import Path
from harness.image import recipe
from harness.kernel.build import kconfig
from harness.kernel.modules import importer, rxe
print(json.dumps([
    recipe.content_key(recipe.inputs()),
    [kconfig.fragment(flavour, Path("/nowhere")) for flavour in ("release", "debug", "coverage")],
    [path.read_text() for path in [*rxe.recipe_files(), *importer.recipe_files(), kconfig.REQUIREMENTS]],
]))
"""
"""Print what the keys of guest images and kernels are made of."""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel."""
    pytest.importorskip("hatchling", reason="make deps installs hatchling")
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an empty environment below a project of its own; return the project's directory."""
    project = tmp_path_factory.mktemp("project")
    (project / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\nrequired_plugins = no-such-plugin\n")
    (project / "conftest.py").write_text("raise ImportError('a conftest.py of another project')\n")
    venv = project / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True, timeout=120)
    pip = [sys.executable, "-m", "pip", "--python", venv, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, check=True, timeout=120)
    (library,) = venv.glob("lib/python*/site-packages")
    (library / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return project


@pytest.fixture
def run(installed: Path) -> Run:
    """Run a program of the environment in the project, with the user's locale and none of the harness's variables."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("VFIO_HARNESS_", "PYTHON"))}

    def call(program: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
        command = [installed / ".venv" / "bin" / program, *args]
        return subprocess.run(command, cwd=installed, env=env, capture_output=True, text=True, check=False, timeout=120)

    return call


def sources() -> Iterator[tuple[str, Path]]:
    """Yield the name in the wheel and the path of each file that it must hold."""
    for tree, place in TREES.items():
        for path in (TOP / tree).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield f"{place}/{path.relative_to(TOP / tree)}", path


def test_the_wheel_holds_each_file_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        found = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    assert found == {name: path.read_bytes() for name, path in sources()}


def test_keys_are_those_of_the_checkout(run: Run) -> None:
    """Nothing that the cache has is built again."""
    done = run("python", "-c", KEYS)
    assert done.returncode == 0, done.stderr
    here = subprocess.run([sys.executable, "-c", KEYS], cwd=TOP, capture_output=True, text=True, check=True, timeout=60)
    assert len(done.stdout) > 10_000
    assert done.stdout == here.stdout


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("machines", "\nintel-iommu"),
        ("bugs list", "\nsgt-orig-nents-leak"),
        ("coverage", " rows, 0 missing"),
    ],
)
def test_commands_find_their_data(run: Run, command: str, shown: str) -> None:
    done = run("vfio-harness", *command.split())
    assert done.returncode == 0, done.stdout + done.stderr
    assert shown in done.stdout


def test_run_collects_the_cases_of_the_wheel(run: Run, installed: Path) -> None:
    """Neither pytest.ini nor conftest.py of the surrounding project counts, and nothing is written into the wheel."""
    before = files(installed)
    done = run("vfio-harness", "run", "-k", "no_such_case")
    assert done.returncode == 2
    assert "-k 'no_such_case' matches no case" in done.stdout, done.stdout + done.stderr
    assert files(installed) == before


def files(directory: Path) -> set[Path]:
    """Return the files below a directory but for byte code, which Python may write or not."""
    return {path for path in directory.rglob("*") if "__pycache__" not in path.parts}
