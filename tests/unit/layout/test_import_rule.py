# SPDX-License-Identifier: GPL-2.0-only
"""Check the import rule. The table in docs/design.md is the rule; these tests read it."""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.paths import TOP

DESIGN = TOP / "docs" / "design.md"
GROUND = "ground"
"""In the last column of the table: every module that lies directly in harness/ and imports nothing."""
MOST_MODULES = 10
"""More modules than this directly in harness/ would need a room."""
PYVERBS = "pyverbs"
"""rdma-core's Python bindings. Only the guest image has them."""
VM_CASES = "tests/vm"
GUEST = "guest"


@dataclass(frozen=True)
class Import:
    """One import statement of one module."""

    file: Path
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


@dataclass
class Rule:
    """The table: rooms from bottom to top, and the rooms that each may import."""

    allowed: dict[str, set[str]] = field(default_factory=dict)
    ground: set[str] = field(default_factory=set)
    """The modules at the top of the table, which import only each other."""

    def room_of(self, name: str) -> str | None:
        """Return the innermost room of a path relative to harness/, e.g. ``kernel/build/tree``."""
        parts = name.split("/")
        prefixes = ("/".join(parts[:length]) for length in range(len(parts), 0, -1))
        return next((prefix for prefix in prefixes if prefix in self.allowed), None)

    def allows(self, importer: str, imported: str) -> bool:
        """Return whether one room may import another. A room may import itself and its sub-rooms."""
        return any(imported == room or imported.startswith(f"{room}/") for room in {importer, *self.allowed[importer]})


def rule() -> Rule:
    """Read the table of rooms in docs/design.md. A row is: rooms, purpose, what they may import."""
    read = Rule()
    for line in DESIGN.read_text().splitlines():
        if not line.startswith(("| `harness/", f"| `{VM_CASES}`")):
            continue
        names, *_, may = [cell.strip() for cell in line.strip("|").split(" | ")]
        rooms = [name.removeprefix("harness/").removesuffix(".py") for name in re.findall(r"`([^`]+)`", names)]
        imports = set(re.findall(r"`([^`]+)`", may))
        assert imports or may in ("nothing", GROUND), f"no rooms and no 'nothing' in: {line}"
        if (
            imports <= read.ground
            and GROUND not in may
            and all((TOP / "harness" / f"{room}.py").exists() for room in rooms)
        ):
            read.ground |= set(rooms)
        for room in rooms:
            read.allowed[room] = imports | (read.ground if GROUND in may else set())
    return read


def module_at(dotted: str) -> bool:
    """Return whether the dotted name is a module or package of this repository."""
    path = TOP / dotted.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def imports(files: list[Path]) -> Iterator[Import]:
    """Yield every import of these files, those inside functions and ``TYPE_CHECKING`` blocks included."""
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                for name in node.names:
                    yield Import(file.relative_to(TOP), node.lineno, name.name)
            elif isinstance(node, ast.ImportFrom):
                package = file.relative_to(TOP).parts[: -node.level] if node.level else ()
                source = ".".join([*package, *filter(None, [node.module])])
                for name in node.names:
                    whole = f"{source}.{name.name}"
                    yield Import(file.relative_to(TOP), node.lineno, whole if module_at(whole) else source)


def room_files(rooms: Rule) -> Iterator[tuple[str, Path]]:
    """Yield each Python file of harness/ with its room."""
    for file in sorted((TOP / "harness").rglob("*.py")):
        name = file.relative_to(TOP / "harness").with_suffix("").as_posix().removesuffix("/__init__")
        if name != "__init__":
            room = rooms.room_of(name)
            assert room, f"{file} lies in no room of the table in {DESIGN}"
            yield room, file


RULE = rule()


def test_the_table_runs_from_bottom_to_top() -> None:
    """A room names only rooms above it in the table, so that no cycle is possible."""
    seen: set[str] = set()
    for room, allowed in RULE.allowed.items():
        unknown = {name for name in allowed if name not in seen and not any(s.startswith(f"{name}/") for s in seen)}
        assert not unknown, f"{room} may import {unknown}, which are not above it in the table"
        seen.add(room)


def test_each_room_of_the_table_exists() -> None:
    for room in RULE.allowed.keys() - {VM_CASES}:
        path = TOP / "harness" / room
        assert path.is_dir() or path.with_suffix(".py").is_file(), room


def test_imports_run_downwards_only() -> None:
    """The table allows each import within harness/."""
    upward = []
    for room, file in room_files(RULE):
        for found in imports([file]):
            name = found.module.replace(".", "/").removeprefix("harness/")
            imported = RULE.room_of(name) or name
            if found.module.startswith("harness.") and not RULE.allows(room, imported):
                upward.append(f"{found}, but {room} may import only: {', '.join(sorted(RULE.allowed[room]))}")
    assert not upward, "\n".join(upward)


def test_a_room_is_allowed_only_what_it_imports() -> None:
    """A permission without a use would hide the next upward import."""
    used: dict[str, set[str]] = {room: set() for room in RULE.allowed}
    sources = [*room_files(RULE), *((VM_CASES, file) for file in (TOP / VM_CASES).glob("*.py"))]
    for room, file in sources:
        used[room] |= {found.module.replace(".", "/").removeprefix("harness/") for found in imports([file])}
    for room, allowed in RULE.allowed.items():
        unused = {
            name for name in allowed - RULE.ground if not any(f"{use}/".startswith(f"{name}/") for use in used[room])
        }
        assert not unused, f"{room} imports nothing of {unused}: remove them from its row"


def test_the_guest_agent_imports_nothing_of_the_harness() -> None:
    """It runs in the guest, which has the standard library and pyverbs, and no other room."""
    for found in imports(sorted((TOP / "harness" / GUEST).rglob("*.py"))):
        top = found.module.split(".")[0]
        assert found.module.startswith("harness.guest") or top in sys.stdlib_module_names or top == PYVERBS, found


def test_cases_import_what_a_case_needs() -> None:
    """A case has no QEMU, SSH or ioctl detail, so it imports only the rooms of its row."""
    for found in imports(sorted((TOP / VM_CASES).glob("*.py"))):
        name = found.module.replace(".", "/").removeprefix("harness/")
        if found.module.startswith("harness."):
            assert RULE.allows(VM_CASES, RULE.room_of(name) or name), found


def test_few_modules_lie_directly_in_harness() -> None:
    """Each has its reason in the table."""
    modules = {path.stem for path in (TOP / "harness").glob("*.py")} - {"__init__"}
    assert len(modules) <= MOST_MODULES
    assert modules <= RULE.allowed.keys()


@pytest.mark.parametrize(("name", "room"), [("vm/machine", "vm"), ("errors", "errors"), ("nowhere", None)])
def test_room_of(name: str, room: str | None) -> None:
    assert RULE.room_of(name) == room
