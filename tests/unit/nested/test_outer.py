# SPDX-License-Identifier: GPL-2.0-only
"""How a run of the outer machine ends, and what it printed by then."""

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.nested import outer
from harness.nested.outer import OuterFiles, _follow

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
        ("a\nKernel panic - not syncing\n", "Kernel panic - not syncing"),
        ("vfio-harness: init failed: tar\n[ 1.0] reboot: Power down\n", "vfio-harness: init failed: tar"),
    ],
)
def test_an_end_without_results_is_an_error(files: OuterFiles, console: str, said: str) -> None:
    files.qemu.console.write_text(console)
    with pytest.raises(HarnessError, match="the outer machine ended without results: ") as caught:
        _follow(files, lambda: True, 1.0, lambda line: None)
    assert str(caught.value).endswith(f": {said}")


def test_the_deadline_ends_it(files: OuterFiles) -> None:
    with pytest.raises(HarnessError, match="did not end within 0 s"):
        _follow(files, lambda: False, 0.2, lambda line: None)


def test_it_may_not_fill_the_disk(files: OuterFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outer, "MOST_OUTPUT", 10)
    with pytest.raises(HarnessError, match="printed more than"):
        _follow(files, lambda: False, 5.0, lambda line: None)
