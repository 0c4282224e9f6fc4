# SPDX-License-Identifier: GPL-2.0-only
"""How a run of the outer machine ends, and what it printed by then."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from harness.errors import HarnessError
from harness.nested import outer, recipe
from harness.nested.image import OuterImage
from harness.nested.outer import Job, OuterFiles, OuterMachine, _follow
from harness.vm import Qemu
from harness.vm.instance import Files

WRITTEN = "vfio-harness: results are written\n"


@pytest.fixture
def files(tmp_path: Path) -> OuterFiles:
    found = OuterFiles.within(tmp_path)
    found.output.write_bytes(b"PASS\x1b[2J\nlast")
    found.qemu.console.write_text(WRITTEN)
    return found


def test_each_whole_line_is_passed_on_escaped(files: OuterFiles) -> None:
    lines: list[str] = []
    _follow(files, lambda: True, 1.0, lines.append)
    assert lines == ["PASS\\x1b[2J"]


def test_a_line_of_any_length_is_cut(files: OuterFiles) -> None:
    files.output.write_bytes(b"x" * 10_000 + b"\n")
    lines: list[str] = []
    _follow(files, lambda: True, 1.0, lines.append)
    assert [len(line) for line in lines] == [outer.MAX_LINE]


@pytest.mark.parametrize(
    ("console", "said"),
    [
        ("", "it printed nothing"),
        ("a\nlast words\n", "last words"),
        ("vfio-harness: init failed: tar\n[ 1.0] reboot: Power down\n", "vfio-harness: init failed: tar"),
    ],
)
def test_an_end_without_results_is_an_error(files: OuterFiles, console: str, said: str) -> None:
    files.qemu.console.write_text(console)
    with pytest.raises(HarnessError, match="the outer machine ended without results: ") as caught:
        _follow(files, lambda: True, 1.0, lambda line: None)
    assert str(caught.value).endswith(f": {said}")


def test_a_crash_of_its_own_kernel_is_named(files: OuterFiles) -> None:
    files.qemu.console.write_text("[ 1.0] Kernel panic - not syncing: x\n[ 1.1] Kernel Offset: 0x0\n")
    with pytest.raises(outer.OuterCrashedError, match="own kernel has crashed: "):
        _follow(files, lambda: True, 1.0, lambda line: None)


def test_the_deadline_ends_it(files: OuterFiles) -> None:
    with pytest.raises(HarnessError, match="did not end within 0 s"):
        _follow(files, lambda: False, 0.2, lambda line: None)


def test_it_may_not_fill_the_disk(files: OuterFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outer, "MOST_OUTPUT", 10)
    with pytest.raises(HarnessError, match="printed more than"):
        _follow(files, lambda: False, 5.0, lambda line: None)


class NoQemu:
    """Stands in for the instance: its QEMU never ends, and the directory is gone when it has started."""

    process = SimpleNamespace(wait=lambda: None)
    thread = SimpleNamespace(submit=lambda waiting: SimpleNamespace(done=lambda: False))

    def __init__(self, files: Files, on_event: object) -> None:
        self._directory = files.console.parent

    def start(self, command: list[str]) -> None:
        shutil.rmtree(self._directory)

    def close(self) -> None:
        NoQemu.ended = True

    ended = False


def test_results_that_vanish_are_an_error_and_qemu_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outer, "Instance", NoQemu)
    image = OuterImage(tmp_path / "kernel", tmp_path / "initrd")
    image.initrd.touch()
    machine = OuterMachine(recipe.load().outer, image, cast(Qemu, SimpleNamespace(path=Path("/q"))))
    with pytest.raises(HarnessError, match=r"/run/output\.txt: No such file"):
        machine.run(Job(b"", [], 5.0), tmp_path / "run", lambda line: None)
    assert NoQemu.ended
