# SPDX-License-Identifier: GPL-2.0-only
"""The agent's zip: byte code of every module, made once for each state of the sources.

This interpreter stands in for the guest's. Every case runs what the real one has made.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import harness.guest
from harness.host import process
from harness.image import agent, bytecode

FOLDER = Path(harness.guest.__file__).parent


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Compile with this interpreter, and extract nothing. Returns the directories that were compiled."""
    tops: list[Path] = []

    def compile_all(root: Path, *options: str | Path) -> None:
        tops.append(Path(options[-1]))
        subprocess.run([sys.executable, "-m", "compileall", "-q", *options], check=True, timeout=60)

    monkeypatch.setattr(process, "check", lambda command, **options: None)
    monkeypatch.setattr(bytecode, "compile_all", compile_all)
    return tops


def test_every_module_is_compiled_once(compiled: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = agent.pack(tmp_path / "root.erofs")
    modules = {f"agent/{path.relative_to(FOLDER)}c" for path in FOLDER.rglob("*.py")}
    assert set(zipfile.ZipFile(packed).namelist()) == {"__main__.pyc"} | modules
    assert agent.pack(tmp_path / "root.erofs") == packed
    assert len(compiled) == 1
    monkeypatch.setattr(agent, "START", "import edited\n")
    assert agent.pack(tmp_path / "root.erofs") != packed
    assert len(compiled) == 2
    assert not compiled[0].exists()
