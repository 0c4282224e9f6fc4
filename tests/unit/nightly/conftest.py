# SPDX-License-Identifier: GPL-2.0-only
"""Nights on disk, as the tests of what leaves the machine read them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.nightly.record import CaseChange, Cell, CellResult, CellRun, Night, Why
from harness.report.record import REPORT, to_json
from harness.report.text import summarise
from harness.verdict import CaseRecord, Evidence, HostRecord, KernelRecord, PhaseRecord, RunRecord, Verdict

RESET = "test_lifecycle::test_sysfs_reset_revokes[iommufd+nvme]"
RING = "test_doorbell::test_rings[rxe]"
LEAK = "test_importer_rules::test_unmapping_gives_the_memory_back"
TITLES = {
    RESET: "An administrator's reset through sysfs revokes mappings as VFIO_DEVICE_RESET does.",
    RING: "A doorbell rung only through an importer makes the controller run the queued command.",
    LEAK: "Repeated maps and unmaps leave the kernel's memory as it was.",
}
COMMIT = '0123456789abcdef0123456789abcdef01234567 vfio/pci: Skip the revoke where the device is "in" reset'
BROKEN = (
    "broken: a mapping made before a reset through sysfs no longer reaches the device; seen: the command completed;"
    " the host saw sq 0 doorbell = 1 and no DMA fault; the importer gave no bad status"
)
SPLAT = """\
refcount_t: addition on 0; use-after-free.
WARNING: lib/refcount.c:25 at refcount_warn_saturate+0xb1/0x110, CPU#1: python3/211
Modules linked in: vfio_pci vfio_pci_core vfio_iommu_type1 vfio iommufd nvme nvme_core edu_importer rdma_rxe ib_uverbs
RIP: 0010:refcount_warn_saturate+0xb1/0x110
Call Trace:
 <TASK>
 vfio_pci_dma_buf_map+0x2e1/0x340 [vfio_pci_core]
 dma_buf_map_attachment+0x94/0x190
 </TASK>
---[ end trace 0000000000000000 ]---"""


def calls(count: int = 3) -> list[Evidence]:
    """Return calls into the guest."""
    return [Evidence(t=0.25 * n, source="guest", text=f"Device.export(feature=0xb) = #{n}") for n in range(count)]


def judged(name: str, verdict: Verdict = Verdict.PASS, reason: str = "", **more: Any) -> CaseRecord:
    """Return the record of a case."""
    area = name.partition("::")[0].removeprefix("test_")
    title = TITLES.get(name, "A rule.")
    return CaseRecord(id=name, area=area, title=title, verdict=verdict, reason=reason, duration_s=0.5, **more)


FAILED = judged(
    RESET,
    Verdict.FAIL,
    BROKEN,
    evidence=[*calls(), Evidence(t=0.9, source="trace", text="doorbell: sq 0 doorbell = 1")],
    ran_in="machine-1",
)
SPLATTED = judged(
    LEAK,
    Verdict.SPLAT,
    "refcount_t: addition on 0; use-after-free in vfio_pci_dma_buf_map",
    evidence=[*calls(14), Evidence(t=3.0, source="console", text=SPLAT)],
)


@dataclass
class Run:
    """A run of a cell. Without cases it has no record."""

    cases: Sequence[CaseRecord] | None
    why: Why = Why.PLAN
    error: str = ""
    exit_code: int | None = 0
    more: dict[str, Any] = field(default_factory=dict)
    """Fields of its record."""


@dataclass
class NightDirectory:
    """Writes a night into a directory."""

    path: Path
    cells: list[Cell] = field(default_factory=list)
    results: list[CellResult] = field(default_factory=list)

    def cell(self, name: str, *runs: Run, cases: Sequence[str] = (RESET, RING, LEAK), **more: Any) -> None:
        """Add a cell and its runs."""
        values = {"tree": "linus", "kernel": "/src/linux@master", "flavour": "release", "machine": "intel-iommu"}
        self.cells.append(Cell(id=name, cases=list(cases), **{**values, "suite": "default", **more}))
        kept = []
        for number, run in enumerate(runs, 1):
            directory = f"cells/{name}/{number}"
            kept.append(
                CellRun(
                    directory=directory,
                    why=run.why,
                    started="2026-11-29T01:00:00+00:00",
                    seconds=12.0,
                    exit_code=run.exit_code,
                    error=run.error,
                )
            )
            if run.cases is not None:
                record = run_record(f"20261129-0100{len(self.cells):02}-{name}-{number}", run.cases, self.cells[-1])
                (self.path / directory).mkdir(parents=True)
                (self.path / directory / REPORT).write_text(to_json(record.model_copy(update=run.more)))
        self.results.append(CellResult(cell=name, runs=kept))

    def write(self, *changes: CaseChange) -> Path:
        """Write ``nightly.json``."""
        night = Night(
            night="2026-11-29",
            started="2026-11-29T00:30:00+00:00",
            ended="2026-11-29T03:30:00+00:00",
            plan="vm-configs/nightly.yaml",
            cells=self.cells,
            results=self.results,
            changes=list(changes),
        )
        night.write(self.path)
        return self.path


def run_record(run_id: str, cases: Sequence[CaseRecord], cell: Cell) -> RunRecord:
    """Return the record of a run of a cell."""
    return RunRecord(
        run_id=run_id,
        started="2026-11-29T01:00:00+00:00",
        duration_s=11.5,
        harness="0.1.0",
        host=HostRecord(qemu="7.2.22", accel="tcg", accel_reason="no KVM", cpu="2 x EPYC"),
        kernel=KernelRecord(release="7.3.0-rc4", origin=cell.kernel or "debian:7.2.12", config_hash="c0ffee"),
        machine=cell.machine,
        summary=summarise(cases),
        phases=[PhaseRecord(phase="kernel", seconds=71.4), PhaseRecord(phase="boot", seconds=3.58)],
        cases=list(cases),
    )


def change(name: str, kind: str, before: str, after: str, **more: Any) -> CaseChange:
    """Return a change in the cell ``linus-intel-iommu``, unless ``cell`` names another."""
    values = {"cell": "linus-intel-iommu", "case": name, "kind": kind, "before": before, "after": after}
    return CaseChange.model_validate({**values, **more})


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return the directory of a night."""
    path = tmp_path / "2026-11-29"
    path.mkdir()
    return path


@pytest.fixture
def nights(directory: Path) -> NightDirectory:
    """Return a night without cells."""
    return NightDirectory(directory)


Write = Callable[[NightDirectory], Path]
"""Writes a night of one kind."""


def broken(nights: NightDirectory) -> Path:
    """Write a night in which one case fails on one machine, and passes on another."""
    nights.cell(
        "linus-intel-iommu",
        Run([FAILED, judged(RING), judged(LEAK)], exit_code=1),
        owner="Jo Maintainer <jo@example.org>",
    )
    nights.cell("linus-switch", Run([judged(RESET), judged(RING), judged(LEAK)]), machine="switch")
    return nights.write(change(RESET, "broken", "PASS", "FAIL", reason=BROKEN))


def broken_with_commit(nights: NightDirectory) -> Path:
    """Write a night in which a case fails in 3 of 10 runs, on two machines, and the commit is known."""
    for machine in ("intel-iommu", "switch"):
        nights.cell(
            f"linus-{machine}",
            Run([FAILED], exit_code=1),
            Run([judged(RESET)], Why.RATE),
            cases=[RESET],
            machine=machine,
        )
    more = {"rate": "3 of 10", "commit": COMMIT, "last_good": "2026-11-27"}
    found = [
        change(RESET, "broken", "PASS", "FAIL", reason=BROKEN, **more, cell=f"linus-{machine}")
        for machine in ("intel-iommu", "switch")
    ]
    return nights.write(*found)


def splat(nights: NightDirectory) -> Path:
    """Write a night in which a case makes the kernel complain, on the debug flavour."""
    nights.cell("linus-intel-iommu", Run([SPLATTED], exit_code=1), cases=[LEAK], flavour="debug")
    return nights.write(
        change(LEAK, "broken", "PASS", "SPLAT", reason=SPLATTED.reason, fingerprint="refcount [vfio_pci_dma_buf_map]")
    )


def missing(nights: NightDirectory) -> Path:
    """Write a night in which one case was deleted, and one cell did not run."""
    nights.cell("linus-intel-iommu", Run([judged(RING)]), cases=[RING, RESET])
    nights.cell("linus-switch", cases=[RING], machine="switch")
    return nights.write(
        change(RESET, "missing", "PASS", "MISS", reason="the run has ended without judging it"),
        change(RING, "missing", "FAIL", "MISS", reason="the cell has not run", cell="linus-switch"),
    )


def fixed(nights: NightDirectory) -> Path:
    """Write a night in which a case passes again."""
    nights.cell("linus-intel-iommu", Run([judged(RESET)]), cases=[RESET])
    return nights.write(change(RESET, "fixed", "FAIL", "PASS"))


def several(nights: NightDirectory) -> Path:
    """Write a night with two problems of two commits, a record that is lost, and a change of each other kind."""
    nights.cell("linus-intel-iommu", Run([FAILED, SPLATTED], exit_code=1), owner="jo@example.org")
    nights.cell(
        "stable-intel-iommu", Run(None, error="the worker was lost", exit_code=None), tree="stable", kernel=None
    )
    lost = {"reason": BROKEN.replace("sysfs", "AER"), "cell": "stable-intel-iommu"}
    other = COMMIT.replace("0123", "fedc").replace('"in"', "in")
    return nights.write(
        change(RESET, "broken", "PASS", "FAIL", reason=BROKEN, commit=COMMIT),
        change(LEAK, "broken", "PASS", "SPLAT", reason=SPLATTED.reason, commit=other, fingerprint="f"),
        change(RESET, "new", "", "FAIL", **lost),
        change(RING, "missing", "PASS", "MISS", reason="the run has ended without judging it"),
        change(RING, "fixed", "FAIL", "PASS", cell="stable-intel-iommu"),
        change("test_cmb::test_new", "new", "", "PASS"),
        change("test_cmb::test_gone", "other", "PASS", "SKIP", reason="the machine has no CMB"),
        change("test_cmb::test_host", "broken", "PASS", "ERROR", reason="QEMU did not start"),
    )


def error_only(nights: NightDirectory) -> Path:
    """Write a night in which the host failed, once more on a fresh machine, too."""
    failed = judged(RESET, Verdict.ERROR, "QEMU was killed by signal 9", ran_in=None)
    nights.cell("linus-intel-iommu", Run([failed], exit_code=3), Run([failed], Why.AGAIN, exit_code=3), cases=[RESET])
    return nights.write(change(RESET, "broken", "PASS", "ERROR", reason="QEMU was killed by signal 9"))


def quiet(nights: NightDirectory) -> Path:
    """Write a night in which nothing has changed but a new case, which passes."""
    nights.cell("linus-intel-iommu", Run([judged(RESET), judged(RING)]), cases=[RESET, RING])
    return nights.write(change(RING, "new", "", "PASS"))


KINDS: dict[str, Write] = {
    "broken": broken,
    "broken-with-commit": broken_with_commit,
    "splat": splat,
    "missing": missing,
    "fixed": fixed,
    "several": several,
    "error-only": error_only,
    "quiet": quiet,
}


@pytest.fixture
def write_night(nights: NightDirectory) -> Callable[[str], Path]:
    """Return a function that writes the night of a kind, and returns its directory."""
    return lambda kind: KINDS[kind](nights)


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Return a function that compares a text with a golden file."""

    def compare(name: str, text: str) -> None:
        path = Path(__file__).parent / "golden" / name
        assert path.is_file(), f"write it: {path}\n{text}"
        assert text == path.read_text(encoding="utf-8"), name

    return compare


@pytest.fixture
def make_run() -> type[Run]:
    """Return the class of a run."""
    return Run


@pytest.fixture
def a_record() -> RunRecord:
    """Return the record of a run without cases."""
    cell = Cell(id="c", tree="t", kernel=None, flavour="release", machine="intel-iommu", suite="default")
    return run_record("r", [], cell)
