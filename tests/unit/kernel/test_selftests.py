# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own tests are built again from another checkout of the harness."""

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from harness.kernel import Kernel, selftests
from harness.progress import Phase, silent

MAKEFILE = """\
all: $(OUTPUT)/a_test
$(OUTPUT)/a_test: $(OUTPUT)/a_test.o
	$(CC) -o $@ $<
$(OUTPUT)/a_test.o: a_test.c
	$(CC) $(EXTRA_CFLAGS) -MD -c -o $@ $<
-include $(OUTPUT)/a_test.d
"""
"""As tools/testing/selftests/vfio does, it keeps the names of the headers for the next build."""


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Return a kernel whose source has one program of tests."""
    monkeypatch.setenv("VFIO_HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(selftests, "STATIC", "")
    tests = tmp_path / "linux" / "selftests"
    tests.mkdir(parents=True)
    (tmp_path / "linux" / "Makefile").write_text("headers:\n")
    (tests / "Makefile").write_text(MAKEFILE)
    (tests / "a_test.c").write_text("int main(void)\n{\n\treturn ANSWER;\n}\n")
    (tmp_path / "build").mkdir()
    found = SimpleNamespace(source_dir=tmp_path / "linux", build_dir=tmp_path / "build", config={})
    return cast(Kernel, found)


def test_a_checkout_that_has_moved_builds_them_again(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for checkout, answer in (("old", 1), ("new", 1), ("newer", 2)):
        missing = tmp_path / checkout / "missing.h"
        missing.parent.mkdir()
        missing.write_text(f"#define ANSWER {answer}\n")
        monkeypatch.setattr(selftests, "MISSING", missing)
        reason, programs = selftests.build(kernel, "selftests", [], Phase(silent, "test"))
        assert not reason
        assert f"{checkout}/" not in (programs / "a_test.d").read_text()
        assert subprocess.run([programs / "a_test"], check=False).returncode == answer
        missing.unlink()


def test_tests_that_do_not_compile_have_a_reason(kernel: Kernel) -> None:
    reason, _ = selftests.build(kernel, "selftests", [], Phase(silent, "test"))
    assert "does not compile" in reason
    assert "ANSWER" in reason
