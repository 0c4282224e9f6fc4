# SPDX-License-Identifier: GPL-2.0-only
"""What is kept of a build: copies, which the next build leaves alone."""

from pathlib import Path

from harness.kernel.build import kbuild, provenance
from harness.kernel.build.provenance import BuildTime, keep
from harness.kernel.model import Build

STARTED = "2026-11-29T03:00:00+00:00"


def test_the_copies_stay_as_they_were(tmp_path: Path) -> None:
    build_dir, entry = tmp_path / "build", tmp_path / "entry"
    for directory in (build_dir, entry):
        directory.mkdir()
    (build_dir / ".config").write_text("CONFIG_A=y\n")
    (build_dir / kbuild.LOG).write_text("  CC      a.o\n")
    (build_dir / provenance.TIME).write_text(BuildTime(started=STARTED, duration_s=7.5).model_dump_json())
    first = keep(build_dir, entry)
    assert (first.started, first.duration_s) == (STARTED, 7.5)
    (build_dir / ".config").write_text("CONFIG_A=n\n")
    (build_dir / kbuild.LOG).write_text("another build\n")
    assert keep(build_dir, entry) == first
    assert first.config.read_text() == "CONFIG_A=y\n"
    assert first.log
    assert first.log.read_text() == "  CC      a.o\n"


def test_a_users_build_has_only_a_configuration(tmp_path: Path) -> None:
    (tmp_path / ".config").write_text("CONFIG_A=y\n")
    entry = tmp_path / "entry"
    entry.mkdir()
    assert keep(tmp_path, entry) == Build(config=entry / "kernel.config")
