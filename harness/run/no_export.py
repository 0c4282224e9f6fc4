# SPDX-License-Identifier: GPL-2.0-only
"""A run on a kernel without the feature under test: nothing is booted, every case is skipped, and a record says so."""

from collections.abc import Iterable
from pathlib import Path

from harness import __version__, paths
from harness.errors import KernelLacksFeature
from harness.report.record import RunDirectory
from harness.report.text import summarise
from harness.run.case import Identity, host_cpu
from harness.run.setup import Options
from harness.verdict import CaseRecord, HostRecord, KernelRecord, RunRecord, Verdict
from harness.vm import Qemu


def save(options: Options, cases: Iterable[Identity], error: KernelLacksFeature) -> Path:
    """Write the record, for whoever reads records and not exit codes; returns its directory."""
    directory = RunDirectory(paths.results_dir())
    skipped = [CaseRecord(**vars(case), verdict=Verdict.SKIP, reason=str(error), duration_s=0.0) for case in cases]
    record = RunRecord(
        run_id=directory.run_id,
        started=directory.started,
        duration_s=0.0,
        harness=__version__,
        host=HostRecord(
            qemu=Qemu.probe(options.qemu).banner.removeprefix("QEMU emulator version "),
            accel="none",
            accel_reason="no machine was booted",
            cpu=host_cpu(),
        ),
        kernel=KernelRecord(
            release="not built", origin=error.origin, config_hash="", features={"dmabuf_export": False}
        ),
        machine=options.machine,
        summary=summarise(skipped),
        cases=skipped,
    )
    directory.write(record, options.make_variables())
    return directory.path
