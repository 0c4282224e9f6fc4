# SPDX-License-Identifier: GPL-2.0-only
"""A kernel with a bug of this test's own (bugs/) gets FAIL, the broken sentence as its reason, and evidence."""

from pathlib import Path

import pytest
from commandline import CommandLine, Finished

from harness.paths import VM_CASES


@pytest.fixture
def broken(harness: CommandLine) -> CommandLine:
    """The command line, with the catalogue of this test's own bugs."""
    harness.env["VFIO_HARNESS_BUGS"] = str(Path(__file__).parent / "bugs")
    return harness


def reasons(outcome: Finished, verdict: str) -> dict[str, str]:
    return {case["importer"]: case["reason"] for case in outcome.cases().values() if case["verdict"] == verdict}


def evidence(outcome: Finished, source: str) -> dict[str, list[str]]:
    return {
        case["importer"]: [item["text"] for item in case["evidence"] if item["source"] == source]
        for case in outcome.cases().values()
    }


def test_reset_without_revoke(broken: CommandLine) -> None:
    """With each importer, the old mapping still rings the doorbell, and the host's trace shows it."""
    cases = (VM_CASES / "test_revoke.py", "-k", "test_reset_revokes[")
    outcome = broken("run", "--mutation", "reset-without-revoke", *cases)
    assert outcome.code == 1
    failed = reasons(outcome, "FAIL")
    assert {"iommufd+edu", "iommufd+nvme", "rxe"} <= set(failed)
    for importer, reason in failed.items():
        assert reason.startswith("broken: a mapping made before VFIO_DEVICE_RESET no longer reaches the device")
        assert "the host saw sq 0 doorbell = " in reason
        assert len([text for text in evidence(outcome, "trace")[importer] if "sq 0 doorbell" in text]) >= 2


def test_export_of_the_wrong_bar(broken: CommandLine) -> None:
    """With each importer, a write lands in BAR0, where the doorbells are, and not in the CMB."""
    outcome = broken("run", "--mutation", "always-bar0", VM_CASES / "test_cmb.py", "-k", "test_cmb_write")
    assert outcome.code == 1
    failed = reasons(outcome, "FAIL")
    assert {"iommufd+edu", "iommufd+nvme", "rxe"} <= set(failed)
    for importer, reason in failed.items():
        assert reason.startswith("broken: an importer's write lands exactly where it aims")
        assert any(text.startswith("Window.write(") for text in evidence(outcome, "guest")[importer])


def test_control(harness: CommandLine) -> None:
    """Without a bug the same cases pass, so the verdicts above come from the bug."""
    outcome = harness("run", VM_CASES, "-k", "test_cmb_write or test_reset_revokes[")
    assert outcome.code == 0, outcome.output
