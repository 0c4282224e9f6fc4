# SPDX-License-Identifier: GPL-2.0-only
"""The links of the documents lead somewhere, and each file and function in docs/design.md exists."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.paths import TOP

DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "guest-images/**/*.md")
    for path in TOP.glob(pattern)
    if not path.is_relative_to(TOP / "results")
)
DESIGN = TOP / "docs" / "design.md"
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
CODE = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"[\w.-]*[\w-]/[\w./-]*|[\w-]+\.(?:py|yaml|c|md|toml)|Makefile")
CALL = re.compile(r"(?:(\w+)\.)?(\w+)\(\)")
ELSEWHERE = ("results/", "kernel/bisect", "kernel/git", "kernel/checkout", "objects/")
"""Paths in a run's results, in the cache, and in a git repository."""
C_FUNCTION = re.compile(r"^[a-z][\w *]*?\b(\w+)\(", re.MULTILINE)


def paragraphs() -> Iterator[str]:
    """Yield the paragraphs and list items of design.md, without code blocks and the table of rooms."""
    text = re.sub(r"```.*?```", "", DESIGN.read_text(), flags=re.DOTALL)
    parts = re.split(r"\n\s*\n|\n(?=\s*(?:[-|]|\d+\.) )", text)
    yield from (part for part in parts if part.strip() and not part.startswith(("| `harness/", "| `tests/vm`")))


def resolve(name: str) -> Path:
    """Return the file that design.md means: a path from the top of the checkout."""
    return TOP / name.rstrip("/")


def functions_of(path: Path) -> set[str]:
    """Return the functions that a file defines, methods as ``Class.method`` too."""
    if path.suffix == ".c":
        return set(C_FUNCTION.findall(path.read_text()))
    if path.suffix != ".py":
        return set()
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {f"{node.name}.{method.name}" for method in methods}
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(TOP).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    for link in LINK.findall(document.read_text()):
        assert (document.parent / link).exists(), link


def test_design_names_files_that_exist() -> None:
    for paragraph in paragraphs():
        for name in CODE.findall(paragraph):
            if PATH.fullmatch(name) and not name.startswith(ELSEWHERE) and "/" in name:
                assert resolve(name).exists(), f"{name}, in: {paragraph}"


def test_design_names_functions_that_exist() -> None:
    """A function is looked for in the files that its paragraph names, or anywhere if that names none."""
    everywhere = {
        name
        for pattern in ("harness/**/*.py", "tests/vm/*.py", "guest-images/**/*.py", "guest-images/**/*.c")
        for path in TOP.glob(pattern)
        for name in functions_of(path)
    }
    for paragraph in paragraphs():
        codes = CODE.findall(paragraph)
        files = [resolve(name) for name in codes if PATH.fullmatch(name) and resolve(name).is_file()]
        known = {name for file in files for name in functions_of(file)} or everywhere
        for owner, name in (match.groups() for code in codes if (match := CALL.fullmatch(code))):
            assert (f"{owner}.{name}" if owner else name) in known, f"{name}(), in: {paragraph}"
