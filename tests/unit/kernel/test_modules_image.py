# SPDX-License-Identifier: GPL-2.0-only
"""The order modules load in."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from harness.kernel.modules import image as modules

# modules.dep of 7.2.12 with the harness's configuration, shortened
MODULES_DEP = """\
kernel/drivers/iommu/iommufd/iommufd.ko:
kernel/drivers/vfio/vfio.ko: kernel/drivers/iommu/iommufd/iommufd.ko
kernel/drivers/vfio/vfio_iommu_type1.ko: kernel/drivers/vfio/vfio.ko kernel/drivers/iommu/iommufd/iommufd.ko
kernel/drivers/vfio/pci/vfio-pci-core.ko: kernel/virt/lib/irqbypass.ko kernel/drivers/vfio/vfio.ko \
kernel/drivers/iommu/iommufd/iommufd.ko
kernel/drivers/vfio/pci/vfio-pci.ko: kernel/drivers/vfio/pci/vfio-pci-core.ko kernel/virt/lib/irqbypass.ko \
kernel/drivers/vfio/vfio.ko kernel/drivers/iommu/iommufd/iommufd.ko
kernel/drivers/infiniband/core/ib_core.ko:
updates/rdma_rxe.ko: kernel/net/ipv4/udp_tunnel.ko kernel/drivers/infiniband/core/ib_core.ko
kernel/net/ipv4/udp_tunnel.ko:
kernel/virt/lib/irqbypass.ko:
"""
DEPS = modules.parse_dep(MODULES_DEP.splitlines())


def test_closure_is_the_names_and_their_dependencies() -> None:
    order = [modules.name_of(path) for path in modules.closure(DEPS, ["vfio_pci"])]
    assert order[-1] == "vfio_pci"
    assert set(order) == {"iommufd", "vfio", "irqbypass", "vfio_pci_core", "vfio_pci"}


def test_builtin_code_is_left_out() -> None:
    assert modules.closure(DEPS, ["virtio_net", "rdma_rxe"])[-1] == "updates/rdma_rxe.ko"
    assert modules.closure(DEPS, ["virtio_net"]) == []


def test_modules_order_of_old_and_new_kernels(tmp_path: Path) -> None:
    (tmp_path / "modules.order").write_text("drivers/vfio/vfio.o\ndrivers/vfio/pci/vfio-pci.ko\n")
    assert modules.listed(tmp_path) == ["drivers/vfio/vfio.ko", "drivers/vfio/pci/vfio-pci.ko"]
    assert modules.listed(tmp_path / "nothing") == []


@st.composite
def acyclic(draw: st.DrawFn) -> dict[str, list[str]]:
    names = [f"m{n}.ko" for n in range(draw(st.integers(1, 8)))]
    return {name: draw(st.lists(st.sampled_from(names[:n]), unique=True)) if n else [] for n, name in enumerate(names)}


@given(acyclic(), st.data())
def test_dependencies_come_first_and_once(deps: dict[str, list[str]], data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.sampled_from([modules.name_of(m) for m in deps])))
    order = modules.closure(deps, wanted)
    assert len(order) == len(set(order))
    assert {modules.name_of(m) for m in order} >= set(wanted)
    for index, module in enumerate(order):
        assert set(deps[module]) <= set(order[:index])
