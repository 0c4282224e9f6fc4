# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness build``: what it builds, and with which options. The builds themselves have their own tests."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from harness import image, kernel
from harness.cli import cli

ARM64 = "arm64-smmuv3"
"""A machine of another architecture than the default."""


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Replace both builds, which need the network; return what was built."""
    found: list[object] = []

    def guest(emit: object, arch: str) -> object:
        found.append(f"guest {arch}")
        return SimpleNamespace(root=Path("/cache/root.erofs"), agent=lambda: found.append("agent"))

    def obtain(spec: kernel.KernelSpec, emit: object) -> object:
        found.append(spec)
        return SimpleNamespace(release="7.2.12", origin="a tree", patches=["0001: a patch"])

    monkeypatch.setattr(image, "obtain", guest)
    monkeypatch.setattr(kernel, "obtain", obtain)
    return found


def test_builds_image_agent_and_the_kernel_of_its_options(built: list[object]) -> None:
    done = CliRunner().invoke(cli, ["build", "--kernel", "debian:7.2.12", "--flavour", "debug"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert built == ["guest x86_64", "agent", kernel.KernelSpec("debian:7.2.12", "debug", None)]
    assert "7.2.12 (a tree), debug" in done.output
    assert "0001: a patch" in done.output


def test_a_machine_of_another_architecture_has_kernel_and_image_of_it(built: list[object]) -> None:
    done = CliRunner().invoke(cli, ["build", "--machine", ARM64], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert built == ["guest arm64", "agent", kernel.KernelSpec(arch="arm64")]


def test_guest_image_only(built: list[object]) -> None:
    done = CliRunner().invoke(cli, ["build", "--guest-image-only"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert built == ["guest x86_64", "agent"]


def test_takes_no_option_that_only_a_run_needs() -> None:
    done = CliRunner().invoke(cli, ["build", "--seed", "1"])
    assert done.exit_code == 2
