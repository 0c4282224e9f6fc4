# SPDX-License-Identifier: GPL-2.0-only
"""How rxe supports dma-buf MRs, up to the point where a compiler is needed."""

from pathlib import Path

import pytest

from harness.kernel.modules import rxe
from harness.kernel.modules.oot import BuiltKernel
from harness.progress import Phase, silent

STEP = Phase(silent, "test")


@pytest.fixture
def built(tmp_path: Path) -> BuiltKernel:
    sources = tmp_path / "linux" / "drivers" / "infiniband" / "sw" / "rxe"
    sources.mkdir(parents=True)
    (sources / "rxe_verbs.c").write_text("static const struct ib_device_ops rxe_dev_ops = {\n};\n")
    return BuiltKernel(tmp_path / "linux", tmp_path / "build", tmp_path / "work")


def test_an_rxe_with_dmabuf_mrs_is_not_replaced(built: BuiltKernel) -> None:
    source = built.source / "drivers/infiniband/sw/rxe/rxe_verbs.c"
    source.write_text("\t.reg_user_mr_dmabuf = rxe_reg_user_mr_dmabuf,\n")
    support, module = rxe.build(built, {"RDMA_RXE": "y"}, STEP)
    assert (support.how, module) == ("mainline", None)


@pytest.mark.parametrize(
    ("config", "reason"), [({}, "CONFIG_RDMA_RXE is not set"), ({"RDMA_RXE": "y"}, "CONFIG_RDMA_RXE=y")]
)
def test_a_kernel_that_cannot_get_them_has_a_reason(built: BuiltKernel, config: dict[str, str], reason: str) -> None:
    support, module = rxe.build(built, config, STEP)
    assert (support.how, module) == ("absent", None)
    assert reason in support.reason


def test_a_missing_source_is_the_reason() -> None:
    assert "not to be found" in rxe.build(None, {"RDMA_RXE": "m"}, STEP)[0].reason


def test_additions_that_do_not_apply_name_the_patch(
    built: BuiltKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipe").mkdir()
    patch = "--- a/rxe_verbs.c\n+++ b/rxe_verbs.c\n@@ -1,2 +1,2 @@\n-no such line\n-nor this\n+new\n+lines\n"
    (tmp_path / "recipe" / "added.patch").write_text(patch)
    monkeypatch.setattr(rxe, "RECIPE", tmp_path / "recipe")
    support, module = rxe.build(built, {"RDMA_RXE": "m"}, STEP)
    assert (support.how, module) == ("absent", None)
    assert support.reason.startswith("added.patch does not apply to this kernel's rxe: Hunk #1 FAILED")
