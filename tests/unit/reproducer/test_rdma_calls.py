# SPDX-License-Identifier: GPL-2.0-only
"""Programs that import by rxe: their calls, and how the status of a transfer is judged."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from recordings import EXPORTER, Steps, call, check, exporter, refused, write

from harness.errors import UsageError
from harness.reproducer import runtime
from harness.reproducer.generate import About, program
from harness.reproducer.row import read_value
from harness.reproducer.steps import JudgedSteps, judged_steps, load
from harness.session.wire import Ref

NIC = "0000:00:05.0"
ABOUT = About("the-bug", "a bug", "test_a::test_b[rxe]", "7.2.12", "intel-iommu", "broken: a rule")
REMOTE = "IBV_WC_REM_ACCESS_ERR"
RULE = "a revoked MR refuses"
WINDOW = 31
RXE: Steps = [{**call("verbs", "open_rxe", Ref(30), bdf=NIC), "earlier": True}, *exporter()]


def attach(number: int = WINDOW) -> dict[str, Any]:
    return call(30, "attach", Ref(number), dmabuf=Ref(5), start=0, length=0x1000)


def ended(do: str, status: str, on: int = WINDOW, **args: Any) -> dict[str, Any]:
    step = call(on, do, **args)
    del step["ok"]
    return {**step, "refused": status}


def read(data: bytes = b"\1\2\3\4", on: int = WINDOW) -> dict[str, Any]:
    return call(on, "read", data, offset=0, length=len(data))


def register(**given: Any) -> dict[str, Any]:
    values = {"start": 0, "length": 0x1000, "iova": 0x1000, "access": 7, **given.pop("values", {})}
    arguments = {"file": Ref(5), "verb": "UVERBS_METHOD_REG_DMABUF_MR", "values": values}
    return call(30, "register", Ref(WINDOW), **{**arguments, "domain": None, "without": [], "unwritable": "", **given})


def judged(steps: Steps, tmp_path: Path, reason: str = "") -> JudgedSteps:
    return judged_steps(load(write(steps, tmp_path / "case.recording.json")), reason)


def body(steps: Steps, tmp_path: Path, reason: str = "") -> list[str]:
    """Return the statements of the program, which compiles, after its set-up."""
    text = program(judged(steps, tmp_path, reason), ABOUT)
    source = tmp_path / "x.c"
    source.write_text(text)
    done = subprocess.run(
        ["cc", "-fsyntax-only", "-O2", "-Wall", "-Wextra", "-Werror", source],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    inner = text.partition("static void program(void)\n{\n")[2].partition("\n}")[0]
    statements = " ".join(inner.split()).replace("; ", ";\n").splitlines()
    return statements[statements.index(next(line for line in statements if "device_export" in line)) + 1 :]


def ring(*, status: str | None, completed: bool) -> Steps:
    store = {"offset": 0, "value": 1}
    return [
        call(4, "submit_identify", {"qid": 0, "cid": 1, "tail": 1}),
        {"ring": "begin"},
        ended("store32", status, **store) if status else call(WINDOW, "store32", **store),
        {"ring": "end"},
        call(4, "completed", {"status": 0, "result": 0} if completed else None, qid=0, cid=1, seconds=0.15),
    ]


def test_a_doorbell_by_rdma_is_judged_by_its_status(tmp_path: Path) -> None:
    steps = [
        *RXE,
        attach(),
        *ring(status=None, completed=True),
        check("a live MR rings", rule="arrives"),
        call(3, "reset"),
        *ring(status=None, completed=True),
        check(RULE, holds=False, rule="blocked"),
    ]
    assert [line for line in body(steps, tmp_path) if "status" in line] == [
        "status = region_store32(&window1, 0, 1);",
        'must_arrive_by_rdma(completed, status, "a live MR rings");',
        "status = region_store32(&window1, 0, 1);",
        f'must_be_refused_by_rdma(completed, status, "{RULE}");',
    ]


def test_a_ring_that_no_rule_judges(tmp_path: Path) -> None:
    """Whether it must arrive the program does not know: a series of rings until a revoke, for example."""
    rings = ring(status=None, completed=True)[:-1]
    steps = [*RXE, attach(), *rings, *rings, check("no ring arrives after one that is refused", holds=False)]
    assert judged(steps, tmp_path).judgement == "host"


def test_a_transfer_that_ends_with_a_status(tmp_path: Path) -> None:
    steps = [*RXE, attach(), ended("read", REMOTE, offset=0, length=4), check(RULE), call("x", "y")][:-1]
    assert body(steps, tmp_path)[1] == f'must_end_with(region_load(&window1, 0, 4), "{REMOTE}", "{RULE}");'


def test_statuses_that_are_wrong(tmp_path: Path) -> None:
    """A READ is refused and a WRITE is not: the program says whether both end as with the bug."""
    steps = [
        *RXE,
        attach(),
        ended("read", REMOTE, offset=0, length=4),
        call(WINDOW, "write", offset=0, data=b"\xff" * 4),
        check(RULE, holds=False),
    ]
    found = judged(steps, tmp_path)
    assert (found.judgement, found.steps[found.at]["call"][1]) == ("statuses", "read")
    assert body(steps, tmp_path)[1:] == [
        f'others += other_status(region_load(&window1, 0, 4), "{REMOTE}");',
        r'others += other_status(region_write(&window1, 0, "\xff\xff\xff\xff", 4), "IBV_WC_SUCCESS");',
        f'judge_statuses(others, "{RULE}");',
    ]


def test_statuses_that_an_earlier_check_judged(tmp_path: Path) -> None:
    """Only those since the last check that held are judged."""
    steps = [
        *RXE, attach(), ended("read", REMOTE, offset=0, length=4), check(RULE), read(), check("it stays", holds=False)
    ]  # fmt: skip
    found = judged(steps, tmp_path)
    assert (found.judgement, found.steps[found.at]) == ("value", found.steps[-1])


def test_data_that_a_revoked_region_gives(tmp_path: Path) -> None:
    steps = [*RXE, attach(), read(), check(RULE, holds=False)]
    assert body(steps, tmp_path)[-1] == f'must_differ(region_load(&window1, 0, 4), 67305985, "{RULE}");'


def test_a_write_that_is_not_refused(tmp_path: Path) -> None:
    steps = [*RXE, attach(), call(WINDOW, "write", offset=0, data=b"a"), check(RULE, holds=False)]
    assert f'wrongly_succeeds(region_write(&window1, 0, "a", 1), "{RULE}");' in body(steps, tmp_path)


def test_a_status_that_ended_the_case(tmp_path: Path) -> None:
    """It has no sentence. Its reason is the status."""
    steps = [*RXE, attach(), ended("read", REMOTE, offset=0, length=4), call(3, "set_memory", on=True)]
    assert body(steps, tmp_path, REMOTE)[-1].startswith("must_be_read(region_load(&window1, 0, 4), ")


def test_the_local_side_of_a_region(tmp_path: Path) -> None:
    steps = [*RXE, attach(), call(WINDOW, "local", Ref(32)), read(on=32), check(RULE, holds=False)]
    assert "need(region_local(&window2, &window1));" in body(steps, tmp_path)


@pytest.mark.parametrize(
    ("given", "members"),
    [
        ({}, ".method = REG_DMABUF_MR, .fd = buffer1.fd, .length = 0x1000, .iova = 0x1000, .access = 7"),
        ({"file": -1}, ".method = REG_DMABUF_MR, .fd = -1, .length = 0x1000, .iova = 0x1000, .access = 7"),
        (
            {"verb": "UVERBS_METHOD_REG_MR", "without": ["length", "fd"], "unwritable": "rkey"},
            ".method = REG_MR, .fd = buffer1.fd, .length = 0x1000, .iova = 0x1000, .access = 7, "
            ".without = 1 << MR_LENGTH | 1 << MR_FD, .unwritable = 1 << MR_RKEY",
        ),
        (
            {"domain": Ref(40)},
            ".method = REG_DMABUF_MR, .fd = buffer1.fd, .length = 0x1000, .iova = 0x1000, .access = 7, "
            ".domain = &protection1.handle",
        ),
    ],
)
def test_arguments_of_a_registration(given: dict[str, Any], members: str, tmp_path: Path) -> None:
    domain = call("verbs", "ProtectionDomain", Ref(40), rxe=Ref(30))
    found = body([*RXE, domain, register(**given), check(RULE, holds=False)], tmp_path)
    assert found[1] == (
        f'wrongly_succeeds(register_mr(&window1, &importer1, (struct mr_arguments){{ {members} }}), "{RULE}");'
    )


def test_a_registration_of_other_memory(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Rxe\.register with address"):
        body([*RXE, register(values={"address": 0x1000}), check(RULE, holds=False)], tmp_path)


def test_a_registration_that_is_refused(tmp_path: Path) -> None:
    step = refused(30, "attach", "EINVAL", "UVERBS_METHOD_REG_DMABUF_MR", dmabuf=Ref(5), start=0, length=0)
    found = body([*RXE, step, check("no bytes are no MR")], tmp_path)
    assert found[0] == 'must_fail(import_by_rxe(&window1, &importer1, &buffer1, 0, 0), EINVAL, "no bytes are no MR");'


def test_keys_are_not_judged(tmp_path: Path) -> None:
    """They are other ones in each run."""
    assert (
        judged([*RXE, attach(), call(WINDOW, "key", 7), check("no MR has it", holds=False)], tmp_path).judgement
        == "host"
    )


def test_many_bytes_are_written_once(tmp_path: Path) -> None:
    data = bytes(range(200))
    steps = [*RXE, attach()]
    steps += [call(3, "write", region=2, offset=at, data=data) for at in (0, 0x1000)]
    steps += [call(WINDOW, "write", offset=0, data=data), check("it holds")]
    body(steps, tmp_path)
    assert (tmp_path / "x.c").read_text().count("static const char data_") == 1


def test_a_program_without_rxe_has_nothing_of_it(tmp_path: Path) -> None:
    text = program(judged([*exporter(), call("pci", "reset", bdf=EXPORTER), check("it holds")], tmp_path), ABOUT)
    assert "rdma" not in text


def run(body: str, tmp_path: Path) -> str:
    """Run a program on this machine. Returns what it prints."""
    chosen = runtime.choose(body)
    before, after = runtime.split(chosen)
    lines = ["#define _GNU_SOURCE", *chosen.includes, '#define NAME "x"', "#define TIMEOUT_S 20", before]
    source, binary = tmp_path / "run.c", tmp_path / "run"
    source.write_text("\n".join([*lines, "static void program(void)", "{", body, "}", after, ""]))
    subprocess.run(["cc", "-o", binary, source], check=True)
    return subprocess.run([binary], capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("length", [9, 4096])
def test_the_digest_is_that_of_the_program(length: int, tmp_path: Path) -> None:
    """Of data that a case read, and of the same data that its program reads."""
    data = bytes(index * 7 & 0xFF for index in range(length))
    statements = f"uint8_t data[{length}];\nint i;\nfor (i = 0; i < {length}; i++)\ndata[i] = i * 7;\n"
    printed = run(f'{statements}say("digest %lld", digest(data, sizeof(data)));', tmp_path)
    assert f"digest {read_value(data)}\n" in printed


def test_few_bytes_are_a_number() -> None:
    assert read_value(b"\1\2") == 0x201
    assert read_value(None) is None


@pytest.mark.parametrize(
    ("completed", "result", "arrived", "blocked"),
    [
        ("1", "0", "ok", "not ok"),
        ("0", "0", "not ok", "not ok"),
        ("NOT_ASKED", "0", "ok", "not ok"),
        ("0", "-EREMOTEIO", "not ok", "ok"),
        ("1", "-EREMOTEIO", "not ok", "not ok"),
        ("NOT_ASKED", "-EREMOTEIO", "not ok", "ok"),
        ("0", "-ENODEV", "Bail out!", "Bail out!"),
    ],
)
def test_a_ring(completed: str, result: str, arrived: str, blocked: str, tmp_path: Path) -> None:
    """``completed``: what the controller did. ``result``: that of the transfer."""
    for function, expected in (("must_arrive_by_rdma", arrived), ("must_be_refused_by_rdma", blocked)):
        printed = run(f'{function}({completed}, {result}, "a rule");', tmp_path)
        assert printed.splitlines()[-1].startswith(expected), printed


@pytest.mark.parametrize(
    ("status", "verdict"), [(10, "not ok"), (0, "ok"), (4, "ok")], ids=["as-with-the-bug", "success", "another"]
)
def test_statuses_as_with_the_bug(status: int, verdict: str, tmp_path: Path) -> None:
    text = f'rdma_status = {status};\njudge_statuses(other_status(0, "{REMOTE}"), "a rule");'
    assert run(text, tmp_path).splitlines()[-1].startswith(verdict)


@pytest.mark.parametrize(("status", "verdict"), [(10, "ok"), (0, "not ok"), (5, "not ok")])
def test_a_transfer_must_end_with_its_status(status: int, verdict: str, tmp_path: Path) -> None:
    text = f'rdma_status = {status};\nmust_end_with(0, "{REMOTE}", "a rule");'
    assert run(text, tmp_path).splitlines()[-1].startswith(verdict)


@pytest.mark.parametrize(("value", "verdict"), [("-ENODEV", "Bail out!"), ("0xffffffffll", "ok"), ("INT64_MIN", "ok")])
def test_only_an_errno_is_an_error_of_a_read(value: str, verdict: str, tmp_path: Path) -> None:
    assert run(f"need_read((long long){value});", tmp_path).splitlines()[-1].startswith(verdict)
