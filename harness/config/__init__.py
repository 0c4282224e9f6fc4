# SPDX-License-Identifier: GPL-2.0-only
"""The strict YAML loader, the base of all models of YAML files, and the model of machines."""

from harness.config.architecture import (
    DEFAULT_ARCH,
    Architecture,
    ArchName,
    arch_of,
    architecture,
    architectures,
    native,
)
from harness.config.case_ids import matches
from harness.config.loader import Model, load
from harness.config.machine import (
    DEFAULT_MACHINE,
    VFIO_USER,
    Capability,
    Device,
    Interface,
    MachineConfig,
    Part,
    Peer,
    Role,
    VfioUser,
    known_machines,
    load_machine,
    machines_as_json,
    machines_as_text,
)
from harness.config.releases import Releases, includes, version

__all__ = [
    "DEFAULT_ARCH",
    "DEFAULT_MACHINE",
    "VFIO_USER",
    "ArchName",
    "Architecture",
    "Capability",
    "Device",
    "Interface",
    "MachineConfig",
    "Model",
    "Part",
    "Peer",
    "Releases",
    "Role",
    "VfioUser",
    "arch_of",
    "architecture",
    "architectures",
    "includes",
    "known_machines",
    "load",
    "load_machine",
    "machines_as_json",
    "machines_as_text",
    "matches",
    "native",
    "version",
]
