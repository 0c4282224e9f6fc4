# SPDX-License-Identifier: GPL-2.0-only
"""Test splats: real consoles give the titles that a maintainer expects, and no text makes the parser raise or stall."""

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.witness.splat import MAX_SPLATS, MAX_TITLE, find_splats
from harness.witness.splat_formats import FORMATS, MAX_LINE

LOGS = Path(__file__).parent.parent / "data" / "splats"

EXPECTED = {
    "bug": [("bug", "BUG in splat_init at splat.c:32")],
    "composed": [
        ("netdevice", "a reference to netdevice eth1 leaked"),
        ("warning", "WARNING in vfio_pci_dma_buf_move at drivers/vfio/pci/vfio_pci_dmabuf.c:362"),
        ("pagefault", "bad memory access in rxe_mr_copy_dmabuf"),
        ("lockdep", "lockdep: Invalid wait context in iommufd_access_notify_unmap"),
        ("slab", "slab kmalloc-64: Poison overwritten"),
        ("workqueue", "workqueue lockup"),
        ("hung-task", "task python3 hung in vfio_pci_dma_buf_move"),
    ],
    "dma-api": [("dma-api", "DMA-API: device driver frees DMA memory with different size in splat_init")],
    "general-protection": [("gpf", "general protection fault in splat_init")],
    "hung-task": [("hung-task", "task busybox hung in splat_init"), ("hung-task", "task vfio-revoke hung in hang")],
    "kasan-use-after-free": [("kasan", "KASAN: slab-use-after-free in splat_init")],
    "list-corruption": [("list", "list_del corruption in splat_init")],
    "lockdep-circular": [("lockdep", "lockdep: possible circular locking dependency detected in splat_init")],
    "lockdep-held-lock-freed": [("lockdep", "lockdep: held lock freed in splat_init")],
    "lockdep-inconsistent": [("lockdep", "lockdep: inconsistent lock state in splat_init")],
    "lockdep-rcu": [("lockdep", "lockdep: suspicious RCU usage in splat_init")],
    "lockdep-unlock-balance": [("lockdep", "lockdep: bad unlock balance detected in splat_init")],
    "null-pointer-and-panic": [
        ("null", "NULL pointer dereference in splat_init"),
        ("panic", "panic: Fatal exception"),
    ],
    "panic": [("panic", "panic: sysrq triggered crash")],
    "rcu-stall": [("rcu-stall", "RCU stall in splat_init")],
    "refcount": [("refcount", "refcount_t: addition on 0; use-after-free in splat_init")],
    "scheduling-while-atomic": [("atomic", "scheduling while atomic in splat_init")],
    "soft-lockup": [("soft-lockup", "soft lockup in splat_init")],
    "ubsan": [
        ("ubsan", "UBSAN: shift-out-of-bounds at splat.c:48:88"),
        ("ubsan", "UBSAN: array-index-out-of-bounds at splat.c:48:97"),
    ],
    "warn": [("warning", "WARNING in splat_init at splat.c:31")],
    "warn-with-message": [
        ("warning", "WARNING in splat_init at splat.c:30: vfio: revoke of 3 buffers left one behind")
    ],
}


def console(name: str) -> str:
    return (LOGS / f"{name}.log").read_text()


def test_every_log_has_its_expectation() -> None:
    assert {path.stem for path in LOGS.iterdir()} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_titles(name: str) -> None:
    assert [(splat.kind, splat.title) for splat in find_splats(console(name))] == EXPECTED[name]


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("warn-with-message", "vfio: revoke of 3 buffers", "---[ end trace"),
        ("null-pointer-and-panic", "BUG: kernel NULL pointer", "---[ end trace"),
        ("lockdep-circular", "WARNING: possible circular", " </TASK>"),
        ("kasan-use-after-free", "BUG: KASAN: slab-use-after-free", "======"),
    ],
)
def test_text_is_the_whole_report_and_no_more(name: str, first: str, last: str) -> None:
    lines = find_splats(console(name))[0].text.splitlines()
    assert lines[0].startswith(first)
    assert lines[-1].startswith(last)


def test_hung_task_names_the_task_that_blocks_it() -> None:
    assert "likely owned by task busybox:46" in find_splats(console("hung-task"))[1].text


def test_fingerprint_is_equal_in_another_run() -> None:
    again = re.sub(r"splat\.c:31", "splat.c:99", console("warn")).replace("+0x3e/", "+0x4e/")
    assert find_splats(again)[0].title != find_splats(console("warn"))[0].title
    assert find_splats(again)[0].fingerprint == find_splats(console("warn"))[0].fingerprint


@pytest.mark.parametrize("clone", [".part.0", ".isra.0", ".constprop.0.isra.0", ".cold"])
def test_a_clone_of_the_compiler_has_the_name_of_its_function(clone: str) -> None:
    (splat,) = find_splats(console("warn"))
    function = splat.title.split()[2]
    (cloned,) = find_splats(console("warn").replace(f"{function}+", f"{function}{clone}+"))
    assert (cloned.title, cloned.fingerprint) == (splat.title, splat.fingerprint)


def test_healthy_console_has_no_splat() -> None:
    healthy = (LOGS.parent / "console-dmar.log").read_text() + "WARNING! power/level is deprecated\nWARNING: hello\n"
    assert find_splats(healthy) == []


def test_guest_without_memory_has_no_splat() -> None:
    said = "Out of memory: Killed process 95 (agent)\nKernel panic - not syncing: System is deadlocked on memory\n"
    assert find_splats(said) == []


def test_report_cut_off_by_a_crash_still_counts() -> None:
    cut = "\n".join(console("bug").splitlines()[:6])
    assert [splat.kind for splat in find_splats(cut)] == ["bug"]


def test_report_inside_another_is_found() -> None:
    lockdep, warn = console("lockdep-circular").splitlines(), console("warn")
    both = "\n".join(lockdep[:40]) + "\n" + warn
    assert [splat.kind for splat in find_splats(both)] == ["lockdep", "warning"]


def test_flood_is_bounded_in_time_and_number() -> None:
    flood = console("warn") * 400 + "=" * 1_000_000 + "\n" + "WARNING: " + "a" * 1_000_000
    start = time.process_time()
    assert len(find_splats(flood)) == MAX_SPLATS
    assert time.process_time() - start < 2


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: f"{form.kind}-{form.title[:20]}")
def test_every_pattern_is_fast(form: object) -> None:
    pattern = form.first  # type: ignore[attr-defined]
    for filler in ("a", "0", " ", "[", ":", "=", "x+0x"):
        for start in ("BUG: ", "WARNING: ", "INFO: task ", "WARNING: a:1 at ", "BUG a ("):
            began = time.process_time()
            pattern.match((start + filler * MAX_LINE)[:MAX_LINE])
            assert time.process_time() - began < 0.1


_pieces = st.sampled_from([line for name in EXPECTED for line in console(name).splitlines()[::7]])


@given(st.lists(st.one_of(_pieces, st.text(max_size=80)), max_size=60))
def test_any_text_gives_bounded_splats(lines: list[str]) -> None:
    for splat in find_splats("\n".join(lines)):
        assert "\n" not in splat.title
        assert 0 < len(splat.title) <= MAX_TITLE
        assert splat.text.count("\n") <= 210
