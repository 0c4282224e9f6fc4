# SPDX-License-Identifier: GPL-2.0-only
"""The figures of a bench: its file, its table, and the sums over a run's record."""

from pathlib import Path

import pytest

from harness.commands.bench_boot import _medians
from harness.commands.bench_figures import FLOOR, Bench, Figure, load
from harness.commands.bench_runs import _bug, _bug_figure, _change_figures, _patch, _suite_figures
from harness.commands.children import Ended
from harness.errors import HarnessError, UsageError
from harness.verdict import CaseRecord, Evidence, HostRecord, KernelRecord, PhaseRecord, RunRecord, Verdict

RUN = RunRecord(
    run_id="r",
    started="2026-01-01T00:00:00+00:00",
    duration_s=9.0,
    harness="1",
    host=HostRecord(qemu="11", accel="tcg", accel_reason="no KVM", cpu="2 x"),
    kernel=KernelRecord(release="7.2", origin="o", config_hash="0"),
    machine="m",
    summary={"PASS": 1},
    phases=[
        PhaseRecord(phase="kernel", seconds=4.0, steps={"applied": 1.0, "compiled": 3.5}),
        PhaseRecord(phase="boot", seconds=3.0, steps={"ready": 3.0}),
    ],
    cases=[
        CaseRecord(
            id="a::b",
            area="p2p",
            title="t",
            verdict=Verdict.PASS,
            duration_s=1.5,
            evidence=[
                Evidence(t=0.5, source="guest", text="Device.reset() ok"),
                Evidence(t=0.6, source="trace", text="x"),
                Evidence(t=1.5, source="guest", text="Device.close() ok"),
            ],
        )
    ],
)


def bench(*figures: Figure) -> Bench:
    return Bench(kernel="7.2", accel="tcg", load=0.25, figures=figures)


def test_the_figures_of_a_boot_are_medians() -> None:
    steps = [{"ready": 1.5, "init starts": 1.0}, {"ready": 1.7, "init starts": 1.2}, {"ready": 90.0}]
    assert [(each.what, each.seconds) for each in _medians(steps)] == [
        ("until init starts", 1.1),
        ("until ready", 1.7),
    ]


def test_the_table_has_floors_and_marks_what_differs_from_the_baseline(tmp_path: Path) -> None:
    floor = Figure(part="boot", what=FLOOR, seconds=2.0)
    before = bench(floor, Figure(part="suite", what="all", seconds=50.0))
    before.write(tmp_path / "results" / "bench.json")
    now = bench(floor, Figure(part="suite", what="all", seconds=60.0), Figure(part="suite", what="new", seconds=1.0))
    table = now.table(load(tmp_path / "results" / "bench.json")).splitlines()
    assert table[3].split() == ["2.00", "1.00", "2.00", *FLOOR.split()]
    assert [row.split() for row in table[-2:]] == [["60.00", "30.00", "50.00+", "all"], ["1.00", "0.50", "-", "new"]]


def test_without_a_boot_there_are_no_floors() -> None:
    assert bench(Figure(part="suite", what="all", seconds=60.0)).table().splitlines()[-1].split() == ["60.00", "all"]


def test_a_missing_baseline_is_an_error_that_names_the_fix(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file") as error:
        load(tmp_path / "bench.json")
    assert "vfio-harness bench" in error.value.hint


def test_the_steps_of_a_change_add_up() -> None:
    total, *parts = _change_figures(Ended(0, 10.0, RUN))
    assert [(each.what, each.seconds) for each in parts] == [
        ("kernel: applied", 1.0),
        ("kernel: compiled", 2.5),
        ("kernel: the rest", 0.5),
        ("boot: ready", 3.0),
        ("boot: the rest", 0.0),
        ("1 cases on the machines, self-checks, start of the program, report", 3.0),
    ]
    assert total.seconds == sum(each.seconds for each in parts) == 10.0


def test_a_suite_has_the_use_of_the_processors_and_its_longest_calls() -> None:
    rows = {each.what: each for each in _suite_figures(Ended(0, 10.0, RUN), 15.0, 2)}
    assert rows["used of the processors"].share == 0.75
    assert rows["  Device.close"].seconds == 1.0
    assert rows["1 boots, one after the other"].seconds == 3.0


def test_the_bug_is_a_patch_of_one_line(tmp_path: Path) -> None:
    file = tmp_path / "drivers/vfio/pci/vfio_pci_core.c"
    file.parent.mkdir(parents=True)
    file.write_text("int vfio_pci_ioctl_reset(int vdev)\n{\n\tvfio_pci_dma_buf_move(vdev, true);\n\treturn 0;\n}\n")
    assert [line for line in _bug(tmp_path).splitlines() if line.startswith(("-\t", "+\t"))] == [
        "-\tvfio_pci_dma_buf_move(vdev, true);",
        "+\t{ }",
    ]
    file.write_text("int other;\n")
    assert _bug(tmp_path) == ""


def test_a_bug_that_no_case_notices_is_no_figure() -> None:
    with pytest.raises(HarnessError, match="no case noticed"):
        _bug_figure(Ended(0, 10.0, RUN))
    bad = RUN.model_copy(update={"cases": [RUN.cases[0].model_copy(update={"verdict": Verdict.FAIL})]})
    assert "a::b" in _bug_figure(Ended(1, 10.0, bad)).what


def test_the_patch_adds_one_line_that_no_cache_has_seen(tmp_path: Path) -> None:
    file = tmp_path / "drivers/vfio/pci/vfio_pci_core.c"
    file.parent.mkdir(parents=True)
    file.write_text("a;\n")
    one, two = _patch(tmp_path), _patch(tmp_path)
    assert one != two
    assert one.count("\n+static const long __used") == 1
