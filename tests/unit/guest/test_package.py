# SPDX-License-Identifier: GPL-2.0-only
"""The agent's package: what it imports."""

import ast
import sys
from pathlib import Path

import pytest

import harness.guest

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
        allowed = {"pyverbs"} if path.name in {"verbs.py", "rdma_storm.py", "rdma_peer.py"} else set()
        assert roots <= set(sys.stdlib_module_names) | allowed
