# SPDX-License-Identifier: GPL-2.0-only
"""The table of architectures, and what a host of one does for another."""

import platform

import pytest

from harness.config import ArchName, arch_of, architecture, architectures, load_machine, native

ARM64 = "arm64-smmuv3"
"""A machine of another architecture than the default."""


@pytest.fixture(params=["x86_64", "aarch64"])
def host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run on a host of one architecture."""
    monkeypatch.setattr(platform, "machine", lambda: request.param)
    return str(request.param)


def test_a_host_builds_its_own_architecture_with_the_plain_compiler(host: str) -> None:
    own = architecture(native())
    assert own.is_native
    assert own.tool("gcc") == "gcc"
    assert own.make_variables == ()


def test_a_host_builds_another_architecture_with_a_cross_compiler(host: str) -> None:
    others = [each for each in architectures().values() if not each.is_native]
    assert len(others) == len(architectures()) - 1
    for each in others:
        assert each.tool("gcc") == f"{each.gnu}-gcc"
        assert each.make_variables == (f"ARCH={each.kernel.arch}", f"CROSS_COMPILE={each.gnu}-")


def test_an_unknown_host_counts_as_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert native() == "x86_64"
    assert architecture("x86_64").make_variables


@pytest.mark.parametrize("name", architectures())
def test_a_kernel_is_known_by_its_option(name: ArchName) -> None:
    assert arch_of({architecture(name).kernel.option: "y"}) == name


def test_a_kernel_of_no_known_architecture_counts_as_the_defaults() -> None:
    assert arch_of({"X86_32": "y"}) == "x86_64"


def test_a_machine_may_have_another_architecture() -> None:
    machine = load_machine(ARM64)
    assert machine.architecture.qemu.program == "qemu-system-aarch64"
    assert machine.iommu_type == "smmuv3"
    assert load_machine("intel-iommu").iommu_type == "intel-iommu"
    assert not load_machine("no-iommu").iommu_type
