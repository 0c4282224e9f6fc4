# SPDX-License-Identifier: GPL-2.0-only
"""A machine that needs a newer QEMU than the host's: its cases are SKIP, and nothing is built or booted."""

from pathlib import Path

from commandline import CommandLine

MACHINE = 'purpose: test\nextends: intel-iommu\nmin_qemu: "99.0"\n'


def test_every_case_is_skipped_with_the_reason(harness: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "newer.yaml"
    file.write_text(MACHINE)
    outcome = harness("run", "--machine", file, "-k", "doorbell")
    assert outcome.code == 0, outcome.output
    assert "newer needs QEMU 99.0 or later" in outcome.output
    assert "QEMU=debian:" in outcome.output
    assert set(outcome.verdicts().values()) == {"SKIP"}


def test_it_is_no_verdict_for_git_bisect(harness: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "newer.yaml"
    file.write_text(MACHINE)
    assert harness("run", "--machine", file, "-k", "doorbell", "--bisect").code > 127
