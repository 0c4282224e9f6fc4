# SPDX-License-Identifier: GPL-2.0-only
"""The description of each device for the server: JSON that harness/vm/device_server.py writes."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from harness.device.config_space import ConfigSpace, Reset
from harness.device.models import find


@dataclass(frozen=True)
class Spec:
    """One device."""

    id: str
    model: str
    """A name of ``harness.device.models``, or a Python file."""
    socket: str
    log: str
    express: bool = True
    resets: tuple[Reset, ...] = ("pcie-flr",)
    pm: bool = True
    msix: bool = False
    resizable: tuple[int, ...] = ()
    drive: str | None = None

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Spec":
        """Read the JSON of one device. Raises TypeError for an unknown key."""
        known = {each.name for each in fields(cls)}
        if unknown := values.keys() - known:
            raise TypeError(f"unknown keys {sorted(unknown)}")
        return cls(**{**values, "resets": tuple(values.get("resets", ("pcie-flr",)))})

    def config_space(self) -> ConfigSpace:
        """Make its config space. Raises LookupError for an unknown model."""
        model = find(self.model)
        return ConfigSpace(
            model.IDENTITY,
            model.BARS,
            wide=model.WIDE,
            express=self.express,
            resets=self.resets,
            pm=self.pm,
            msix=model.MSIX if self.msix else None,
            resizable=self.resizable,
        )

    @property
    def drive_path(self) -> Path | None:
        """The backing file."""
        return Path(self.drive) if self.drive else None
