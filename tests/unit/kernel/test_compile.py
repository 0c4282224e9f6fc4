# SPDX-License-Identifier: GPL-2.0-only
"""Compiling one changed file as Kbuild did."""

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.kernel.build.compile import ObjectCompiler

NAME = "drivers/a.c"
TEXT = b"int sum(int a, int b) { return a + b + STEP; }\n"


@pytest.fixture(params=["cmd_", "savedcmd_"], ids=["before 6.3", "since 6.3"])
def compiler(tmp_path: Path, request: pytest.FixtureRequest) -> ObjectCompiler:
    """A build whose record of the file is that of one version of Kbuild."""
    record = tmp_path / "drivers/.a.o.cmd"
    record.parent.mkdir()
    command = "gcc -Wp,-MMD,drivers/.a.o.d -O2 -Wall -DSTEP=3 -c -o drivers/a.o a.c ; objtool drivers/a.o"
    record.write_text(f"{request.param}drivers/a.o := {command}\n\nsource_drivers/a.o := a.c\n")
    return ObjectCompiler(tmp_path)


def test_only_changed_code_changes_the_digest(compiler: ObjectCompiler) -> None:
    digest = compiler.compile(NAME, TEXT)
    assert digest
    assert digest == compiler.compile(NAME, b"/* a comment */ " + TEXT)
    assert digest != compiler.compile(NAME, TEXT.replace(b"a + b", b"a - b"))


@pytest.mark.parametrize("text", [b"int sum(", b"static int unused;\n"], ids=["error", "warning"])
def test_an_error_or_a_warning_does_not_compile(compiler: ObjectCompiler, text: bytes) -> None:
    assert compiler.compile(NAME, text) is None


def test_a_file_that_was_not_built_is_named(compiler: ObjectCompiler) -> None:
    with pytest.raises(HarnessError, match=r"no record of how drivers/b\.c was compiled"):
        compiler.compile("drivers/b.c", TEXT)
