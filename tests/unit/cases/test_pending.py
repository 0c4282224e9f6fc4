# SPDX-License-Identifier: GPL-2.0-only
"""A pending change decides which rows hold on a kernel, and no failure is lost by it."""

from pathlib import Path
from typing import cast

import pytest

from harness.cases.collect import collect
from harness.cases.contract import Contract, Pending, Row, read
from harness.cases.must import ContractBroken
from harness.cases.pending import PROBES, PendingChanges
from harness.config import load
from harness.errors import UsageError
from harness.session import Session

CONTRACT = Contract(
    pending={"mmap": Pending(series="[PATCH] Add mmap", message_id="1@x", changes="It maps.")},
    rows={
        "uapi.old": Row(title="No.", until="mmap"),
        "uapi.new": Row(title="Yes.", since="mmap"),
        "uapi.other": Row(title="Always."),
    },
)


class FakeSession:
    """Counts the probes, and answers them."""

    def __init__(self, has: bool | None, refused: tuple[str, ...] = ()) -> None:
        self.has = has
        self.refused = refused
        self.probed = 0

    def probe(self, _: Session) -> bool | None:
        self.probed += 1
        return self.has

    def reset(self) -> list[str]:
        return list(self.refused)


def changes(session: FakeSession) -> PendingChanges:
    return PendingChanges(CONTRACT, {"mmap": session.probe})


@pytest.mark.parametrize(
    ("has", "row", "reason"),
    [
        (False, "uapi.old", ""),
        (True, "uapi.old", "uapi.old does not hold on a kernel with mmap, which this one has: [PATCH] Add mmap (1@x)"),
        (None, "uapi.old", "this machine cannot show whether the kernel has mmap of [PATCH] Add mmap (1@x)"),
        (False, "uapi.new", "this kernel lacks mmap, which [PATCH] Add mmap (1@x) adds"),
        (True, "uapi.new", ""),
        (None, "uapi.new", "this machine cannot show whether the kernel has mmap of [PATCH] Add mmap (1@x)"),
    ],
)
def test_a_row_holds_until_or_since_a_change(has: bool | None, row: str, reason: str) -> None:
    session = FakeSession(has)
    assert changes(session).not_in_force([row], cast(Session, session)) == reason


def test_each_change_is_probed_once_and_only_for_its_rows() -> None:
    session = FakeSession(has=True)
    pending = changes(session)
    assert not pending.not_in_force(["uapi.other"], cast(Session, session))
    assert session.probed == 0
    for row in ("uapi.old", "uapi.new", "uapi.old"):
        pending.not_in_force([row], cast(Session, session))
    assert session.probed == 1


def test_a_probe_that_cannot_close_what_it_opened_breaks_the_contract() -> None:
    session = FakeSession(has=False, refused=("Device: EBUSY",))
    with pytest.raises(ContractBroken, match="EBUSY"):
        changes(session).not_in_force(["uapi.old"], cast(Session, session))


def test_a_change_without_a_probe_is_absent() -> None:
    assert not PendingChanges(CONTRACT, {}).not_in_force(["uapi.old"], cast(Session, FakeSession(has=True)))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{title: x, until: nmap}", "did you mean 'mmap'"),
        ("{title: x, until: mmap, since: mmap}", "exclude each other"),
    ],
)
def test_a_row_names_one_known_change(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text(f"pending:\n  mmap: {{series: s, message_id: m, changes: c}}\nrows:\n  uapi.x: {row}\n")
    with pytest.raises(UsageError, match=message):
        load(path, Contract)


def test_each_shipped_change_has_a_probe_or_a_reason() -> None:
    assert {name for name, change in read().pending.items() if not change.unprobed} == set(PROBES)


def test_a_case_that_a_change_skips_covers_nothing_else() -> None:
    """Else the change would silence the case for its other rows as well."""
    rows = read().rows
    for case in collect():
        of = {rows[name].until or rows[name].since for name in case.rows}
        probed = of & set(PROBES)
        assert not probed or len(of) == 1, case.where
