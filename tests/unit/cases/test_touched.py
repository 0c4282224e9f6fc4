# SPDX-License-Identifier: GPL-2.0-only
"""Which cases a series concerns."""

import pytest

from harness.cases.collect import collect
from harness.cases.touched import PATH, TouchedFiles, concerned
from harness.config import load, matches


@pytest.mark.parametrize(
    ("files", "patterns"),
    [
        (["drivers/vfio/pci/vfio_pci_dmabuf.c"], ("*",)),
        (["Documentation/driver-api/vfio.rst", "MAINTAINERS"], ()),
        (["arch/x86/kernel/pci-dma.c"], ("*",)),
        (["arch/arm64/mm/mmu.c"], ()),
        (["drivers/infiniband/core/umem_dmabuf.c", "Documentation/x"], ("*rxe*", "test_rdma*", "test_umem::*")),
        (["drivers/infiniband/core/umem_dmabuf.c", "drivers/dma-buf/dma-buf.c"], ("*",)),
        (["no/such/file.c"], ("*",)),
        ([], ()),
    ],
)
def test_a_file_that_no_row_matches_concerns_every_case(files: list[str], patterns: tuple[str, ...]) -> None:
    assert concerned(files) == patterns


def test_every_pattern_names_a_case() -> None:
    ids = [case.id for case in collect()]
    for row in load(PATH, TouchedFiles).files:
        for pattern in row.cases:
            assert any(matches([pattern], name) for name in ids), pattern
