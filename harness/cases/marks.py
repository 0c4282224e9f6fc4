# SPDX-License-Identifier: GPL-2.0-only
"""User actions that must revoke a device's buffers, and the marks that cases share."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from harness.cases.constants import PCI_D0, PCI_D3hot
from harness.session import Device


@dataclass(frozen=True)
class Trigger:
    """A user action that must revoke."""

    row: str
    """Its row of the contract."""
    act: Callable[[Device], None]
    """Perform it."""
    undo: Callable[[Device], None] | None = None
    """End the state that ``act`` begins; None if ``act`` also un-revokes, or if nothing can."""
    notifications: int = 1
    """How often ``act`` notifies each dynamic attachment; ``undo`` does so once."""
    needs: str = ""
    """The capability of the machine that it needs."""


TRIGGERS = {
    "command-mem": Trigger("lifecycle.command-mem", lambda d: d.set_memory(False), lambda d: d.set_memory(True)),
    "d3hot": Trigger("lifecycle.power", lambda d: d.set_power_state(PCI_D3hot), lambda d: d.set_power_state(PCI_D0)),
    "low-power": Trigger("lifecycle.low-power", Device.low_power_entry, Device.low_power_exit),
    "low-power-wakeup": Trigger("lifecycle.low-power", Device.low_power_entry_with_wakeup, Device.low_power_exit),
    "reset": Trigger("lifecycle.reset", Device.reset, notifications=2),
    "flr": Trigger("lifecycle.flr", Device.flr, notifications=2),
    "hot-reset": Trigger("lifecycle.hot-reset", Device.hot_reset, notifications=2, needs="hot-reset"),
    "close": Trigger("lifecycle.close", Device.close),
}


def rows_in(area: str) -> Callable[..., pytest.MarkDecorator]:
    """Make the mark that names the rows of the contract that a case covers.

    ``area`` is what the report shows: ``rows = rows_in("rdma")``, then ``@rows("importers.rdma-remote")``.
    """

    def rows(*names: str) -> pytest.MarkDecorator:
        return pytest.mark.contract(area, *names)

    return rows


def importers(*names: str) -> pytest.MarkDecorator:
    """Run the case once with each of these importers."""
    return pytest.mark.parametrize("importer", names, indirect=True)


def triggers(*names: str, area: str | None = None) -> pytest.MarkDecorator:
    """Run the case once with each trigger, given as ``"trigger"`` or as ``"trigger importer"``.

    With ``area`` each run also covers its trigger's row of the contract. It is skipped where the machine lacks what its
    trigger needs.
    """
    arguments = ["trigger", "importer"][: len(names[0].split())]
    params = []
    for name in names:
        values = name.split()
        trigger = TRIGGERS[values[0]]
        marks = [pytest.mark.contract(area, trigger.row)] if area else []
        marks += [pytest.mark.needs(trigger.needs)] if trigger.needs else []
        params.append(pytest.param(*values, marks=marks))
    return pytest.mark.parametrize(arguments, params, indirect=arguments[1:])
