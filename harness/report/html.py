# SPDX-License-Identifier: GPL-2.0-only
"""``report.html``: one static page with no script, no network access, and a light and a dark theme."""

from collections.abc import Mapping

from harness.report import pages
from harness.report.text import by_area, changes
from harness.verdict import KERNEL_AT_FAULT, RunRecord, Verdict

_OPEN = KERNEL_AT_FAULT | {Verdict.ERROR}
_MACHINE_FILES = ("command", "console.log", "trace.log", "qemu.stderr")


def render(record: RunRecord, settings: Mapping[str, str]) -> str:
    """Render the whole page. ``settings``: see ``repeat_command``."""
    return pages.render(
        "report.html",
        title=f"vfio-harness: {record.kernel.release}",
        record=record,
        known=_facts(record),
        areas=by_area(record.cases),
        changes=changes(record),
        settings=settings,
        OPEN=_OPEN,
        MACHINE_FILES=_MACHINE_FILES,
    )


def _facts(record: RunRecord) -> dict[str, str]:
    kernel, host = record.kernel, record.host
    return {
        "run": f"{record.run_id}, {record.started}, vfio-harness {record.harness}",
        "kernel": f"{kernel.release} from {kernel.origin}, config {kernel.config_hash}",
        "patches": ", ".join(kernel.patches),
        "features": ", ".join(name if present else f"no {name}" for name, present in kernel.features.items()),
        "machine": record.machine,
        "host": f"QEMU {host.qemu}, {host.accel} ({host.accel_reason}), {host.cpu}",
    }
