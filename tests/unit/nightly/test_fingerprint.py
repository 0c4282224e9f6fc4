# SPDX-License-Identifier: GPL-2.0-only
"""Fingerprints: every splat that a case's evidence holds has one, equal on every build."""

import re
from pathlib import Path

import pytest
from made_nights import case_record

from harness.nightly.fingerprint import fingerprint
from harness.verdict import Evidence
from harness.witness.splat import find_splats

LOGS = sorted((Path(__file__).parent.parent / "data" / "splats").glob("*.log"))
KASAN = """BUG: KASAN: slab-use-after-free in {function}+0x3e/0x50 [vfio_pci_core]
Read of size 8 at addr ffff888012345678 by task python3/61
Call Trace:
 <TASK>
 dump_stack_lvl+0x4e/0x70
 kasan_report+0xb0/0x120
 vfio_pci_dma_buf_move{suffix}+0x{offset:x}/0x210 [vfio_pci_core]
 ? __pfx_vfio_pci_dma_buf_move+0x10/0x10
 vfio_pci_core_ioctl+0x155/0x1000 [vfio_pci_core]
 vfio_device_fops_unl_ioctl+0x9c/0xb0
 </TASK>
==================================================================="""


def kasan(function: str = "vfio_pci_dma_buf_move", suffix: str = "", offset: int = 16) -> str:
    return KASAN.format(function=function + suffix, suffix=suffix, offset=offset)


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.stem)
def test_evidence_has_the_fingerprint_that_the_console_has(log: Path) -> None:
    for splat in find_splats(log.read_text()):
        assert fingerprint(case_record("c", "SPLAT", splat=splat.text)) == splat.fingerprint
        assert splat.fingerprint.startswith(f"{splat.kind}: ")


def test_it_is_the_kind_and_the_top_three_functions() -> None:
    found = fingerprint(case_record("c", "SPLAT", splat=kasan()))
    assert found == "kasan: vfio_pci_dma_buf_move < vfio_pci_core_ioctl < vfio_device_fops_unl_ioctl"


@pytest.mark.parametrize("suffix", ["", ".isra.0", ".constprop.0", ".part.0", ".cold", ".constprop.0.isra.0"])
def test_another_build_gives_the_same(suffix: str) -> None:
    one, other = kasan(), kasan(suffix=suffix, offset=0xAB)
    assert fingerprint(case_record("c", "SPLAT", splat=one)) == fingerprint(case_record("c", "SPLAT", splat=other))


def test_another_function_gives_another() -> None:
    one, other = kasan(), kasan(function="vfio_pci_dma_buf_cleanup")
    assert fingerprint(case_record("c", "SPLAT", splat=one)) != fingerprint(case_record("c", "SPLAT", splat=other))


def test_a_report_without_a_function_has_its_title_without_numbers() -> None:
    said = "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block 3"
    found = {fingerprint(case_record("c", "SPLAT", splat=said.replace("3", count))) for count in ("3", "17")}
    assert found == {"panic: panic: VFS: Unable to mount root fs on unknown-block #"}


def test_the_first_splat_counts() -> None:
    record = case_record("c", "SPLAT", splat=kasan())
    later = Evidence(t=0.5, source="console", text=re.sub("KASAN: .* in", "KASAN: slab-out-of-bounds in", kasan("g")))
    both = record.model_copy(update={"evidence": [*record.evidence, later]})
    assert fingerprint(both) == fingerprint(record)


@pytest.mark.parametrize("source", ["host", "guest", "qmp", "trace"])
def test_only_the_console_has_splats(source: str) -> None:
    record = case_record("c", "FAIL")
    assert fingerprint(record.model_copy(update={"evidence": [Evidence(t=0, source=source, text=kasan())]})) == ""


@pytest.mark.parametrize("text", ["", "the guest logged: DMAR", "(3 more)"])
def test_other_text_has_none(text: str) -> None:
    assert fingerprint(case_record("c", "FAIL", splat=text)) == ""
