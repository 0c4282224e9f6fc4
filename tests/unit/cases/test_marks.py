# SPDX-License-Identifier: GPL-2.0-only
"""Marks that parametrize a case with triggers and importers."""

from typing import Any

from harness.cases.contract import contract
from harness.cases.marks import TRIGGERS, importers, triggers
from harness.session import IMPORTERS


def arguments(mark: Any) -> tuple[list[str], list[tuple[str, ...]]]:
    names, params = mark.args
    return names, [param.values for param in params]


def test_a_trigger_alone_is_one_parameter() -> None:
    mark = triggers("d3hot", "close")
    assert arguments(mark) == (["trigger"], [("d3hot",), ("close",)])
    assert list(mark.kwargs["indirect"]) == []


def test_a_trigger_with_an_importer_is_two_of_which_the_importer_is_a_fixture() -> None:
    mark = triggers("d3hot rxe")
    assert arguments(mark) == (["trigger", "importer"], [("d3hot", "rxe")])
    assert list(mark.kwargs["indirect"]) == ["importer"]


def test_with_an_area_each_run_covers_its_triggers_row() -> None:
    rows = [param.marks[0].args for param in triggers("d3hot", "reset", area="notify").args[1]]
    assert rows == [("notify", "lifecycle.power"), ("notify", "lifecycle.reset")]
    assert not triggers("d3hot").args[1][0].marks


def test_a_hot_reset_needs_a_device_that_the_user_owns() -> None:
    hot, plain = triggers("hot-reset", "reset").args[1]
    assert [mark.args for mark in hot.marks] == [("hot-reset",)]
    assert not plain.marks


def test_importers_are_fixtures() -> None:
    mark = importers("rxe", "iommufd+nvme")
    assert mark.args == ("importer", ("rxe", "iommufd+nvme"))
    assert set(mark.args[1]) <= IMPORTERS.keys()
    assert mark.kwargs == {"indirect": True}


def test_each_trigger_names_a_row_of_the_contract() -> None:
    assert {trigger.row for trigger in TRIGGERS.values()} <= contract().keys()
