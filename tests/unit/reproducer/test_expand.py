# SPDX-License-Identifier: GPL-2.0-only
"""Calls in forked processes, and calls that are made while another pauses."""

import errno
import subprocess
from pathlib import Path
from typing import Any

import pytest
from recordings import IMPORTER, Steps, attach, call, check, exporter, importer, write

from harness.errors import UsageError
from harness.reproducer import runtime
from harness.reproducer.expand import CALLS, PROCESS, expand
from harness.reproducer.generate import About, program
from harness.reproducer.recorded import ObjectRef
from harness.reproducer.steps import judged_steps, load
from harness.session.wire import Ref, request

ABOUT = About("the-bug", "a bug", "test_a::test_b", "7.2.12", "intel-iommu", "broken: a rule")
RULE = "a rule"
PROCESS_NUMBER = 50
ATTACH = {
    "bdf": IMPORTER,
    "static": False,
    "peer2peer": True,
    "callback": True,
    "remap": False,
    "delay_ms": 0,
    "unlocked": False,
}


def inside(on: str | int, do: str, reply: bytes, /, process: int = PROCESS_NUMBER, **args: Any) -> Steps:
    """Ask a forked process to make a call, as harness/session/process.py does."""
    target = Ref(on) if isinstance(on, int) else on
    return [
        {"in a forked process": [target, do]},
        call(process, "ask", reply, line=request(1, target, do, args, thread=False)),
    ]


def fork(number: int = PROCESS_NUMBER) -> dict[str, Any]:
    return call("rpc", "fork", Ref(number))


def interleaved(outcomes: tuple[str, str], *, blocked: bool = False, opened: int | None = None) -> dict[str, Any]:
    """Attach, pause, and revoke."""
    return call(
        "pause",
        "interleave",
        {
            "reached": True,
            "held": True,
            "blocked": blocked,
            "outcomes": list(outcomes),
            "opened": [None if opened is None else Ref(opened), None],
        },
        point="attach",
        paused={"on": "importer", "do": "Attachment", "args": {**ATTACH, "dmabuf": Ref(5)}},
        meanwhile={"on": Ref(3), "do": "set_memory", "args": {"on": False}},
        wait_seconds=2.0,
        call_seconds=1.5,
    )


def loaded(steps: Steps, tmp_path: Path) -> list[Any]:
    return load(write(steps, tmp_path / "x.recording.json"))


def text(steps: Steps, tmp_path: Path) -> str:
    """Return the program without breaks in its lines. It compiles."""
    found = program(judged_steps(loaded(steps, tmp_path), ""), ABOUT)
    source = tmp_path / "x.c"
    source.write_text(found)
    done = subprocess.run(
        ["cc", "-fsyntax-only", "-O2", "-Wall", "-Wextra", "-Werror", source],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    return " ".join(found.partition("static struct buffer")[2].split())


def test_a_call_in_a_process(tmp_path: Path) -> None:
    steps = [*exporter(), fork(), *inside(3, "reset", b'{"id": 1, "ok": null}'), check(RULE)]
    found = text(steps, tmp_path)
    assert "static long long make_call1(void) { return device_reset(&device1); }" in found
    assert "need(process_fork(&process1)); need(process_call(&process1, make_call1));" in found


def test_a_call_that_a_process_is_refused(tmp_path: Path) -> None:
    steps = [
        *exporter(),
        fork(),
        *inside(3, "reset", b'{"id": 1, "errno": 19, "call": "VFIO_DEVICE_RESET"}'),
        check(RULE),
    ]
    assert f'must_fail(process_call(&process1, make_call1), ENODEV, "{RULE}");' in text(steps, tmp_path)


def test_a_process_that_ends_during_its_call(tmp_path: Path) -> None:
    steps = [
        *exporter(),
        fork(),
        *({**step, "thread": 2} for step in inside(3, "reset", b"")),
        call(PROCESS_NUMBER, "kill"),
        {"join": 2},
        check(RULE),
    ]
    found = text(steps, tmp_path)
    assert "static int make_call2(void) { return process_call(&process1, make_call1); }" in found
    assert 'must_fail(finish_call(&call2), ESRCH, "Device.reset is refused");' in found


def test_objects_of_a_process_are_its_own(tmp_path: Path) -> None:
    """Each process counts them by itself, so two objects may have one number."""
    attach = {**ATTACH, "dmabuf": Ref(5)}
    made = b'{"id": 1, "ok": {"$object": 60}}'
    steps = loaded(
        [
            *exporter(),
            fork(50),
            fork(51),
            *inside("importer", "Attachment", made, process=50, **attach),
            *inside("importer", "Attachment", made, process=51, **attach),
            *inside(60, "map", b'{"id": 2, "ok": null}', process=51),
        ],
        tmp_path,
    )
    first, second, mapped = expand(steps)[-3:]
    assert first["ok"] != second["ok"]
    assert (mapped["call"], mapped[PROCESS]) == ([second["ok"], "map"], ObjectRef(51))
    assert first["args"]["dmabuf"] == ObjectRef(5)


def test_a_transfer_in_a_process(tmp_path: Path) -> None:
    """Its status stays there."""
    steps = [*exporter(), fork(), *inside("verbs", "open_rxe", b'{"id": 1, "ok": {"$object": 60}}', bdf=IMPORTER)]
    steps += inside(60, "attach", b'{"id": 1, "ok": {"$object": 61}}', dmabuf=Ref(5), start=0, length=4096)
    steps += inside(61, "read", b'{"id": 1, "refused": "IBV_WC_REM_ACCESS_ERR"}', offset=0, length=4)
    with pytest.raises(UsageError, match="ended with IBV_WC_REM_ACCESS_ERR"):
        text([*steps, check(RULE)], tmp_path)


def test_two_calls_of_which_one_pauses(tmp_path: Path) -> None:
    steps = [*exporter(), interleaved(("ENODEV", "ok")), call(3, "reset"), check(RULE)]
    found = text(steps, tmp_path)
    assert "static int make_call2(void) { return device_set_memory(&device1, false); }" in found
    expected = errno.ENODEV << 12
    assert f"need_same(interleave(IMPORTER_PAUSE_ATTACH, make_call1, make_call2, 1500), {expected});" in found


def test_the_outcome_of_two_calls_that_is_wrong(tmp_path: Path) -> None:
    """It is judged, not the earlier calls of the case, such as an attach."""
    earlier = call("importer", "Attachment", Ref(60), **ATTACH, dmabuf=Ref(5))
    mapped = call(60, "map")
    steps = [*exporter(), earlier, mapped, interleaved(("ok", "ok"), blocked=True, opened=61), check(RULE, holds=False)]
    assert (
        f'must_differ(interleave(IMPORTER_PAUSE_ATTACH, make_call1, make_call2, 1500), {1 << 24}, "{RULE}");'
        in text(steps, tmp_path)
    )


def test_what_a_paused_call_opens(tmp_path: Path) -> None:
    steps = [*exporter(), interleaved(("ok", "ok"), opened=61), call(61, "map"), check(RULE)]
    assert expand(loaded(steps, tmp_path))[8][CALLS][0]["ok"] == ObjectRef(61)
    assert "need(map(&attachment1));" in text(steps, tmp_path)


@pytest.mark.parametrize(("do", "args"), [("iova", {}), ("free_flexible_resources", {})])
def test_a_paused_call_that_no_program_can_make(do: str, args: dict[str, Any], tmp_path: Path) -> None:
    step = interleaved(("ok", "ok"))
    step["args"]["paused"] = {"on": Ref(4), "do": do, "args": args}
    with pytest.raises(UsageError, match=rf"no C program can repeat Nvme\.{do}"):
        text([*exporter(), step, check(RULE)], tmp_path)


def run(functions: str, body: str, tmp_path: Path) -> list[str]:
    """Run a program on this machine. Returns its lines."""
    chosen = runtime.choose(functions + body)
    before, after = runtime.split(chosen)
    head = ["#define _GNU_SOURCE", *chosen.includes, '#define NAME "x"', "#define TIMEOUT_S 20", before]
    source, binary = tmp_path / "run.c", tmp_path / "run"
    source.write_text("\n".join([*head, functions, "static void program(void)", "{", body, "}", after, ""]))
    subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-o", binary, source], check=True)
    return subprocess.run([binary], capture_output=True, text=True, check=False, timeout=30).stdout.splitlines()


def test_a_process_makes_calls_passes_files_and_ends(tmp_path: Path) -> None:
    functions = (
        "static struct process process1;\nstatic struct buffer buffer1, buffer2;\n"
        'static long long opened(void) { return other_file(&buffer1, "device"); }\n'
        "static long long sent(void) { return send_file(parent_files, buffer1.fd); }\n"
        "static long long ends(void) { _exit(0); }\n"
    )
    body = (
        "need(process_fork(&process1)); need(process_call(&process1, opened)); need(process_call(&process1, sent));\n"
        "need(process_receive(&process1, &buffer2)); need(fcntl(buffer2.fd, F_GETFD));\n"
        'must_fail(process_call(&process1, ends), ESRCH, "a rule");\n'
        'must_differ(process_ended(&process1, 5000), 0, "a rule");'
    )
    assert run(functions, body, tmp_path)[-1] == "ok 1 x"


def test_a_process_that_is_killed(tmp_path: Path) -> None:
    body = (
        "need(process_fork(&process1)); need(process_kill(&process1));\n"
        'must_differ(process_ended(&process1, 5000), 0, "a rule");'
    )
    assert run("static struct process process1;\n", body, tmp_path)[-1] == "ok 1 x"


def test_a_call_many_times(tmp_path: Path) -> None:
    asked = {"on": Ref(3), "do": "set_master", "args": {"on": True}, "times": 50}
    refused = call("repeat", "call", [errno.ENODEV], **{**asked, "do": "reset", "args": {}})
    found = text([*exporter(), call("repeat", "call", [0], **asked), refused, check(RULE)], tmp_path)
    assert "need(repeat(make_call1, 50));" in found
    assert f'must_fail(repeat(make_call2, 50), ENODEV, "{RULE}");' in found


def test_a_call_that_is_refused_now_and_then(tmp_path: Path) -> None:
    step = call("repeat", "call", [0, 19], on=Ref(3), do="reset", args={}, times=50)
    with pytest.raises(UsageError, match=r"a call that gave \[0, 19\]"):
        text([*exporter(), step, check(RULE)], tmp_path)


def test_iovas_that_the_agent_chose(tmp_path: Path) -> None:
    """Later calls have them as numbers."""
    steps = [
        *exporter(),
        call(2, "map_file", 0x4000000000, dmabuf=Ref(5), start=0, length=4096, flags=7, iova=None),
        call(2, "unmap", 4096, iova=0x4000000000, length=4096),
        check(RULE),
    ]
    assert "ioas_map_file(&space1, buffer1.fd, 0, 0x1000, 7, &(uint64_t){ 0x4000000000ull })" in text(steps, tmp_path)
    steps = [
        *importer(),
        *exporter(),
        attach(),
        call(20, "iova", 0x4000000000),
        check(RULE),
    ]
    assert "import_at(&window1, &importer1.engine, &buffer1, 0, 0x1000, 0x4000000000ull)" in text(steps, tmp_path)


def test_a_file_in_place_of_a_buffer(tmp_path: Path) -> None:
    step = {**attach(), "args": {"dmabuf": 0, "start": 0, "length": 4096}}
    del step["ok"]
    found = text([*importer(), *exporter(), {**step, "errno": "EINVAL", "of": "x"}, check(RULE)], tmp_path)
    assert "import(&window1, &importer1.engine, &(struct buffer){ 0 }, 0, 0x1000)" in found


def test_a_second_close_does_nothing(tmp_path: Path) -> None:
    functions = "static struct attachment attachment1;\n"
    body = "attachment1.fd = dup(0);\nneed(detach(&attachment1));\nneed(detach(&attachment1));"
    assert run(functions, body, tmp_path)[-1] == "ok 1 x"
