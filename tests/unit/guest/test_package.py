# SPDX-License-Identifier: GPL-2.0-only
"""The agent's package: its imports, and how it is packed."""

import ast
import io
import sys
import zipfile
from pathlib import Path

import pytest

import harness.guest
from harness.session import bundle

FOLDER = Path(harness.guest.__file__).parent
MODULES = sorted(FOLDER.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_imports_only_what_the_guest_has(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            roots = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            roots = {str(node.module).split(".")[0]}
        else:
            continue
        allowed = {"pyverbs"} if path.name in {"verbs.py", "rdma_storm.py"} else set()
        assert roots <= set(sys.stdlib_module_names) | allowed


def test_the_bundle_holds_every_module_and_is_reproducible() -> None:
    packed = bundle.pack()
    assert packed == bundle.pack()
    names = set(zipfile.ZipFile(io.BytesIO(packed)).namelist())
    assert names == {"__main__.py"} | {f"agent/{path.relative_to(FOLDER)}" for path in MODULES}
