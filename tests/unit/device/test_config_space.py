# SPDX-License-Identifier: GPL-2.0-only
"""The config space of a device: its capabilities, what a guest can write, and which writes reset it."""

import struct

import pytest

from harness.device.config_space import (
    AF_CTRL,
    COMMAND,
    EXPRESS_DEVCTL,
    PM_CTRL,
    ConfigSpace,
    Identity,
    Msix,
    Reset,
)
from harness.guest.config_space import CAP_AF, CAP_EXP, CAP_PM
from harness.guest.config_space import ConfigSpace as Guest

IDENTITY = Identity(0x1B36, 0x11F1, 0x010802)


def space(*resets: Reset, express: bool = True, pm: bool = True, msix: Msix | None = None) -> ConfigSpace:
    return ConfigSpace(IDENTITY, {0: 0x4000, 2: 1 << 20}, wide=(2,), express=express, resets=resets, pm=pm, msix=msix)


def seen_by_a_guest(config: ConfigSpace) -> Guest:
    return Guest(config.read, config.write)


def test_identity_and_bars() -> None:
    config = space()
    assert config.read(0, 4) == bytes.fromhex("361bf111")
    assert config.read(9, 3) == bytes.fromhex("020801")
    assert [config.read(0x10 + 4 * bar, 4)[0] for bar in (0, 2)] == [0, 4]


@pytest.mark.parametrize(
    ("config", "has"),
    [
        (space("pcie-flr"), {CAP_PM, CAP_EXP}),
        (space("af-flr", express=False), {CAP_PM, CAP_AF}),
        (space("pcie-flr", "af-flr", pm=False), {CAP_EXP, CAP_AF}),
        (space(express=False, pm=False), set()),
        (space(msix=Msix(4, 8)), {CAP_PM, CAP_EXP, 0x11}),
    ],
)
def test_a_guest_finds_the_capabilities_that_were_chosen(config: ConfigSpace, has: set[int]) -> None:
    guest = seen_by_a_guest(config)
    assert {number for number in (CAP_PM, CAP_EXP, CAP_AF, 0x11) if guest.capability(number) is not None} == has


def test_flr_needs_express() -> None:
    with pytest.raises(ValueError, match="pcie-flr"):
        space("pcie-flr", express=False)


@pytest.mark.parametrize(
    ("offset", "data", "reset"),
    [
        (EXPRESS_DEVCTL, b"\x10\xa8", "pcie-flr"),
        (EXPRESS_DEVCTL + 1, b"\x80", "pcie-flr"),
        (EXPRESS_DEVCTL - 4, b"\0" * 5 + b"\x80", "pcie-flr"),
        (EXPRESS_DEVCTL, b"\x80", None),
        (AF_CTRL, b"\x01", "af-flr"),
        (AF_CTRL - 1, b"\x01\x00", None),
    ],
)
def test_a_write_that_sets_the_bit_resets(offset: int, data: bytes, reset: str | None) -> None:
    assert space("pcie-flr", "af-flr").write(offset, data) == reset


def test_a_reset_that_is_not_offered_is_no_reset() -> None:
    assert space("af-flr", express=False).write(EXPRESS_DEVCTL, b"\x00\x80") is None
    assert space("pcie-flr").write(AF_CTRL, b"\x01") is None


def test_a_resizable_bar_has_its_size_and_smaller_ones() -> None:
    config = ConfigSpace(IDENTITY, {0: 0x4000, 2: 16 << 20}, resizable=[2])
    at = seen_by_a_guest(config).extended_capability(0x15)
    sizes, control = struct.unpack("<II", config.read(at + 4, 8))
    assert sizes >> 4 == 0b11111  # 1, 2, 4, 8 and 16 MiB
    assert (control & 7, control >> 5 & 7, control >> 8 & 0x3F) == (2, 1, 4)
    with pytest.raises(ValueError, match="BAR 0 is smaller than 1 MiB"):
        ConfigSpace(IDENTITY, {0: 0x4000}, resizable=[0])


def test_only_writable_bits_change_and_a_reset_restores_them() -> None:
    config = space("pcie-flr")
    config.write(0, b"\xff\xff\xff\xff")
    config.write(COMMAND, b"\xff\xff")
    config.write(PM_CTRL, b"\x03\x00")
    assert config.read(0, 2) == b"\x36\x1b"
    assert (config.memory_on, config.master_on, config.read(COMMAND, 2)) == (True, True, b"\x06\x05")
    assert config.read(PM_CTRL, 1)[0] & 3 == 3
    config.reset()
    assert (config.memory_on, config.master_on, config.read(PM_CTRL, 1)[0] & 3) == (False, False, 0)
