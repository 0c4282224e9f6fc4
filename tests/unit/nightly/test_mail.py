# SPDX-License-Identifier: GPL-2.0-only
"""The mail of a night: golden files for each kind, no file where nothing has changed, and hostile text."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.nightly.cells import NightVerdicts
from harness.nightly.mail import WIDTH, write_mail
from harness.nightly.record import FILE, Night

WRITES = ("broken", "broken-with-commit", "splat", "missing", "fixed", "several", "error-only")
COPIED = re.compile(r"Subject: .{1,72}$|#regzbot |  make vm-test |  (WARNING|Modules linked in): ")
"""Lines that may be longer: commands and the kernel's log, which are copied, and the header of a subject."""

WriteNight = Callable[[str], Path]


@pytest.mark.parametrize("kind", WRITES)
def test_the_mail_of_each_kind(kind: str, write_night: WriteNight, golden: Callable[[str, str], None]) -> None:
    path = write_mail(NightVerdicts.read(write_night(kind)))
    assert path is not None
    assert path.name == "mail.txt"
    golden(f"mail-{kind}.txt", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", WRITES)
def test_prose_has_72_columns(kind: str, write_night: WriteNight) -> None:
    path = write_mail(NightVerdicts.read(write_night(kind)))
    assert path is not None
    assert [line for line in path.read_text().splitlines() if len(line) > WIDTH and not COPIED.match(line)] == []


def test_a_night_without_changes_removes_the_old_mail(write_night: WriteNight) -> None:
    directory = write_night("quiet")
    (directory / "mail.txt").write_text("old")
    assert write_mail(NightVerdicts.read(directory)) is None
    assert not (directory / "mail.txt").exists()
    assert write_mail(NightVerdicts.read(directory)) is None


def test_a_problem_without_a_record_says_what_is_missing(write_night: WriteNight) -> None:
    directory = write_night("broken")
    (directory / "cells/linus-intel-iommu/1/report.json").write_text("{")
    path = write_mail(NightVerdicts.read(directory))
    assert path is not None
    text = path.read_text()
    assert "There is nothing more to quote: the run has no record:" in text
    assert "broken: a mapping made before a reset" in text
    assert "K='test_sysfs_reset_revokes[iommufd+nvme]'" in text


def test_equal_problems_are_one_and_many_are_counted(write_night: WriteNight) -> None:
    directory = write_night("broken")

    def mail_of_40(reason: str) -> str:
        night = Night.model_validate_json((directory / FILE).read_text())
        found = [{"case": f"test_a::test_{n}", "reason": reason.format(n=n)} for n in range(40)]
        changes = [night.changes[0].model_copy(update=more) for more in found]
        night.model_copy(update={"changes": changes}).write(directory)
        path = write_mail(NightVerdicts.read(directory))
        assert path is not None
        return path.read_text()

    one = mail_of_40("the same")
    assert "40 more cases fail on linus." in one
    assert "  and 29 more" in one
    assert one.count("To reproduce it:") == 1
    many = mail_of_40("another: {n}")
    assert "Broken as well: 35" in many
    assert many.count("To reproduce it:") == 5


def test_the_symptoms_of_a_commit_are_one_problem(write_night: WriteNight) -> None:
    directory = write_night("broken-with-commit")
    night = Night.model_validate_json((directory / FILE).read_text())
    found = [{"case": f"test_a::test_{n // 2}[{n % 2}]", "reason": f"another: {n // 2}"} for n in range(40)]
    changes = [night.changes[0].model_copy(update=more) for more in found]
    changes[30] = changes[30].model_copy(update={"after": "CRASH", "reason": "Oops in vfio_pci_dma_buf_move"})
    night.model_copy(update={"changes": changes}).write(directory)
    path = write_mail(NightVerdicts.read(directory))
    assert path is not None
    text = path.read_text()
    assert text.startswith("Subject: [REGRESSION] vfio dma-buf: 40 more cases fail since 0123456789ab\n")
    assert "case:    test_a::test_15[0]\n" in text
    assert "verdict: PASS -> CRASH" in text
    assert "The same commit breaks 39 more:\n\n  test_a::test_0: PASS -> FAIL for 0, 1\n" in text
    assert text.count("#regzbot introduced:") == 1
    assert text.count("To reproduce it:") == 1
    assert "split this draft" not in text


def test_what_the_guest_wrote_is_escaped(write_night: WriteNight) -> None:
    directory = write_night("splat")
    report = directory / "cells/linus-intel-iommu/1/report.json"
    report.write_text(report.read_text().replace("Device.export", "\\u001b[31m\\u202e").replace("RIP:", "\\u0085RIP:"))
    path = write_mail(NightVerdicts.read(directory))
    assert path is not None
    text = path.read_text()
    assert "\\x1b[31m\\u202e" in text
    assert all(char.isprintable() or char == "\n" for char in text)


def test_megabytes_of_evidence_give_a_short_mail(write_night: WriteNight) -> None:
    directory = write_night("splat")
    report = directory / "cells/linus-intel-iommu/1/report.json"
    report.write_text(report.read_text().replace("Modules linked in:", "x" * 2_000_000))
    path = write_mail(NightVerdicts.read(directory))
    assert path is not None
    assert path.stat().st_size < 10_000


def test_a_damaged_night_is_a_usage_error(directory: Path) -> None:
    with pytest.raises(UsageError, match=r"nightly\.json"):
        write_mail(NightVerdicts.read(directory))
    (directory / FILE).write_text('{"schema": "vfio-harness/nightly/0"}')
    with pytest.raises(UsageError, match="only 'vfio-harness/nightly/1' can be read"):
        write_mail(NightVerdicts.read(directory))
