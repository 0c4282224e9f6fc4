# SPDX-License-Identifier: GPL-2.0-only
"""The C file of a recording: it compiles on its own without a warning, and has the case's calls and rules."""

import re
import struct
import subprocess
from pathlib import Path

import pytest
from recordings import NOT_UNREVOKED, STALE_MAPPING, Steps, call, check, exporter, write

from harness import paths
from harness.errors import UsageError
from harness.reproducer import runtime
from harness.reproducer.generate import WIDTH, About, program, wrap
from harness.reproducer.steps import judged_steps, load
from harness.session.wire import Ref

ABOUT = About("the-bug", "a bug", "test_a::test_b[iommufd+nvme]", "7.2.12", "intel-iommu", "broken: a */ rule")
STRICT = ("-fsyntax-only", "-O2", "-Wall", "-Wextra", "-Werror")


def written(steps: Steps, tmp_path: Path) -> str:
    return program(judged_steps(load(write(steps, tmp_path / "case.recording.json")), ""), ABOUT)


def must_compile(source: Path) -> None:
    done = subprocess.run(["cc", *STRICT, source], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


def body(text: str) -> list[str]:
    """Return the statements of the program, each on one line."""
    found = re.search(r"static void program\(void\)\n\{\n(.*?)\n\}", text, re.DOTALL)
    assert found
    return [line.strip() for line in re.sub(r"\n\t\t+", " ", found[1]).splitlines() if line.strip()]


@pytest.mark.parametrize("steps", [STALE_MAPPING, NOT_UNREVOKED], ids=["doorbell", "errno"])
def test_it_compiles_on_its_own(steps: Steps, tmp_path: Path) -> None:
    source = tmp_path / "the-bug.c"
    source.write_text(written(steps, tmp_path))
    must_compile(source)


def test_a_doorbell_is_judged_by_the_controller_and_the_log(tmp_path: Path) -> None:
    statements = body(written(STALE_MAPPING, tmp_path))
    at = statements.index("forget_faults();")
    assert statements[at - 1 :] == [
        "need(nvme_queue_identify(&nvme1));",
        "forget_faults();",
        "need(window_store32(&window1, 0, 1));",
        "completed = nvme_completed(&nvme1, 1, 1000);",
        'must_be_blocked(completed, "a mapping made before a reset no longer reaches the device");',
    ]


def test_an_errno_is_judged_by_the_last_call(tmp_path: Path) -> None:
    assert body(written(NOT_UNREVOKED, tmp_path))[-4:] == [
        "need(low_power_entry(&device2));",
        "must_fail(import(&window1, &importer1.engine, &buffer1, 0, 0x1000), ENODEV, "
        '"a revoked buffer cannot be mapped");',
        "need(low_power_exit(&device2));",
        'must_succeed(import(&window2, &importer1.engine, &buffer1, 0, 0x1000), "a buffer can be mapped again");',
    ]


def test_a_call_that_blocks_runs_beside_the_program(tmp_path: Path) -> None:
    steps = [
        *exporter(),
        {**call(3, "reset"), "thread": 5},
        call(3, "set_memory", on=True),
        {"join": 5},
        {"join": 5},
        call(3, "command", 6),
        check("it holds"),
    ]
    text = written(steps, tmp_path)
    assert body(text)[-5:] == [
        "need(start_call(&call1, make_call1));",
        "need(device_set_memory(&device1, true));",
        "need(finish_call(&call1));",
        "need(device_command(&device1));",
        "/* it holds */",
    ]
    source = tmp_path / "x.c"
    source.write_text(text)
    must_compile(source)


def test_the_program_has_only_the_runtime_that_it_uses(tmp_path: Path) -> None:
    text = written(NOT_UNREVOKED, tmp_path)
    assert "nvme_engine_start" in text
    assert "edu" not in text
    assert "IMPORTER_" not in text


def test_the_head_names_the_bug_and_the_case(tmp_path: Path) -> None:
    head = written(STALE_MAPPING, tmp_path).partition("#define")[0]
    joined = " ".join(head.replace(" * ", "").split())
    assert "the-bug: a bug" in joined
    assert "test_a::test_b[iommufd+nvme]" in joined
    assert head.count("*/") == 1


def test_many_equal_ranges_are_written_once(tmp_path: Path) -> None:
    payload = struct.pack("<IIII", 2, 0, 0, 96) + struct.pack("<QQ", 0, 1 << 24) * 96
    steps = [*exporter(), call(3, "export", Ref(6), feature=11, payload=payload), check("it holds")]
    assert "[0 ... 95] = { 0, 0x1000000 }," in written(steps, tmp_path)


def test_an_object_that_nothing_made(tmp_path: Path) -> None:
    steps = [*exporter(), call(3, "attach"), call("nvme", "Controller", Ref(9), device=Ref(77)), check("it holds")]
    with pytest.raises(UsageError, match="the object 77, which none of its calls made"):
        written(steps, tmp_path)


def test_a_transfer_that_the_importer_refused(tmp_path: Path) -> None:
    step = call(20, "store32", offset=0, value=1)
    del step["ok"]
    steps = [*STALE_MAPPING[:-8], {**step, "refused": "IBV_WC_REM_ACCESS_ERR"}, check("it holds", holds=False)]
    with pytest.raises(UsageError, match="ended with IBV_WC_REM_ACCESS_ERR"):
        written(steps, tmp_path)


def test_lines_break_after_commas_outside_strings() -> None:
    names = ", ".join(["a" * 30] * 3)
    lines = wrap(f'f({names}, "one, two, three, four, five, six");')
    assert all(len(line.expandtabs(8)) <= WIDTH for line in lines)
    assert lines[-1].endswith('"one, two, three, four, five, six");')


def test_every_part_of_the_runtime_compiles(tmp_path: Path) -> None:
    """A program that uses each function, so that no part is forgotten."""
    functions = sorted(
        name
        for part in runtime.all_parts()
        if not part.file.startswith(runtime.LAST)
        for name in part.defines
        if re.search(rf"^static .*\b{name}\(", part.text, re.MULTILINE)
    )
    uses = "\n".join(f"\t(void){name};" for name in functions)
    chosen = runtime.choose(uses)
    before, after = runtime.split(chosen)
    parts = ["#define _GNU_SOURCE", *chosen.includes, '#define NAME "x"', "#define TIMEOUT_S 1", before]
    source = tmp_path / "all.c"
    source.write_text("\n".join([*parts, "static void program(void)", "{", uses, "}", after, ""]))
    assert {"window_store32_after", "map_without_memory", "edu_start_by_dma_api"} <= set(functions)
    must_compile(source)


@pytest.mark.parametrize("source", sorted(paths.bugs_dir().glob("*.c")), ids=lambda path: path.stem)
def test_each_reproducer_of_the_catalogue_compiles(source: Path) -> None:
    must_compile(source)


def checkpatch() -> Path | None:
    """Return the script of a kernel source in the cache."""
    return next(iter(sorted((paths.cache_dir() / "kernel" / "source").glob("*/scripts/checkpatch.pl"))), None)


@pytest.mark.skipif(checkpatch() is None, reason="no kernel source in the cache")
@pytest.mark.parametrize("steps", [STALE_MAPPING, NOT_UNREVOKED], ids=["doorbell", "errno"])
def test_checkpatch_finds_nothing(steps: Steps, tmp_path: Path) -> None:
    source = tmp_path / "the-bug.c"
    source.write_text(written(steps, tmp_path))
    command = [str(checkpatch()), "--no-tree", "--terse", "--no-summary", "--file", source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.stdout, done.stdout
