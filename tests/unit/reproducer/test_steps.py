# SPDX-License-Identifier: GPL-2.0-only
"""Which step of a recording shows the bug, and how a program can judge it."""

from pathlib import Path

import pytest
from recordings import (
    EXPORTER,
    NOT_UNREVOKED,
    STALE_MAPPING,
    Steps,
    attach,
    call,
    check,
    exporter,
    importer,
    refused,
    write,
)

from harness.errors import UsageError
from harness.reproducer.steps import JudgedSteps, judged_steps, load
from harness.session.wire import Ref

ATTACHMENT = {
    "bdf": EXPORTER,
    "dmabuf": Ref(5),
    "static": False,
    "peer2peer": True,
    "callback": True,
    "remap": False,
    "delay_ms": 0,
    "unlocked": False,
}


def judged(steps: Steps, tmp_path: Path, reason: str = "") -> JudgedSteps:
    return judged_steps(load(write(steps, tmp_path / "case.recording.json")), reason)


def judged_call(found: JudgedSteps) -> str:
    return str(found.steps[found.at]["call"][1])


def test_a_doorbell_that_arrives_wrongly(tmp_path: Path) -> None:
    found = judged(STALE_MAPPING, tmp_path)
    assert (found.judgement, found.sentence) == ("ring", "a mapping made before a reset no longer reaches the device")


def test_a_call_that_is_refused_wrongly(tmp_path: Path) -> None:
    found = judged(NOT_UNREVOKED, tmp_path)
    assert (found.judgement, judged_call(found), found.sentence) == (
        "acceptance",
        "attach",
        "a buffer can be mapped again",
    )


def test_a_call_that_is_accepted_wrongly(tmp_path: Path) -> None:
    """``must_fail`` states it: the block ends, and then the check breaks."""
    steps = [
        *importer(),
        *exporter(),
        {"expect": "ENODEV", "sentence": "a revoked buffer cannot be mapped"},
        attach(),
        {"expected": True},
        check("a revoked buffer cannot be mapped", holds=False),
    ]
    assert judged(steps, tmp_path).judgement == "refusal"


def test_an_import_that_is_accepted_wrongly(tmp_path: Path) -> None:
    """The case tells it from later observations, such as a power state."""
    steps = [
        *importer(),
        *exporter(),
        call(3, "low_power_entry"),
        attach(),
        call("pci", "power_state", "D3hot", bdf=EXPORTER),
        check("in low power a buffer stays revoked", holds=False),
    ]
    found = judged(steps, tmp_path)
    assert (found.judgement, judged_call(found)) == ("import", "attach")


def test_data_that_is_wrong(tmp_path: Path) -> None:
    """The import before it is as it must be."""
    steps = [
        *importer(),
        *exporter(),
        attach(),
        call(20, "read", b"\x05", offset=0, length=1),
        call(20, "read", b"\x00", offset=0x1000, length=1),
        check("a DMA reaches each range", holds=False),
    ]
    found = judged(steps, tmp_path)
    assert (found.judgement, judged_call(found), found.steps[found.at]["args"]["offset"]) == ("value", "read", 0x1000)


def test_a_value_that_is_wrong(tmp_path: Path) -> None:
    steps = [
        *exporter(),
        call("importer", "Attachment", Ref(6), **ATTACHMENT),
        call(6, "map"),
        check("a buffer can be mapped"),
        call(3, "set_memory", on=True),
        call(6, "mapped", False),
        call(6, "log", {"notified": 2}),
        check("notified of the un-revoke, an importer can map", holds=False),
    ]
    found = judged(steps, tmp_path)
    assert (found.judgement, judged_call(found)) == ("value", "mapped")


def test_memory_that_grows(tmp_path: Path) -> None:
    steps = [
        *exporter(),
        call("feature_request", "slab", 1000),
        call("feature_request", "slab", 5000),
        check("an unmap frees the scatter list", holds=False),
    ]
    found = judged(steps, tmp_path)
    assert found.judgement == "growth"
    assert [found.steps[index]["ok"] for index in (found.against, found.at)] == [1000, 5000]


def test_what_only_the_host_sees(tmp_path: Path) -> None:
    steps = [*importer(), *exporter(), attach(), {"witness": "maps"}, check("a BAR is mapped as MMIO", holds=False)]
    assert judged(steps, tmp_path).judgement == "host"


def test_what_the_program_does_not_observe(tmp_path: Path) -> None:
    """The page table, for example. Without this rule the import before it would be judged."""
    steps = [
        *importer(),
        *exporter(),
        attach(),
        call("page_table", "entries", [], bdf=EXPORTER),
        check("the page table has an entry for each page", holds=False),
    ]
    assert judged(steps, tmp_path).judgement == "host"


def test_an_errno_that_the_case_did_not_expect(tmp_path: Path) -> None:
    """The case ends there, and its verdict's reason names the call. Its cleanup may make calls after it."""
    steps = [
        *exporter(),
        refused(14, "attach", "ENODEV", dmabuf=Ref(5), start=0, length=0x1000),
        call(3, "low_power_exit"),
    ]
    found = judged([*importer(), *steps], tmp_path, "the kernel refused: IOMMU_IOAS_MAP_FILE gave ENODEV")
    assert (found.judgement, judged_call(found)) == ("acceptance", "attach")


def test_a_splat(tmp_path: Path) -> None:
    assert judged([*exporter(), check("it holds")], tmp_path, "WARNING in f at a.c:1").judgement == "log"


def test_the_end_of_the_case_is_no_part_of_it(tmp_path: Path) -> None:
    steps = [*exporter(), call("rpc", "reset_all", keep=[]), check("a case leaves no reference", holds=False)]
    found = judged(steps, tmp_path, "WARNING in f at a.c:1")
    assert found.judgement == "log"
    assert all(step.get("call") != ["rpc", "reset_all"] for step in found.steps)


def test_an_importer_of_an_earlier_case_that_is_not_used(tmp_path: Path) -> None:
    found = judged([*importer(), *exporter(), check("it holds")], tmp_path)
    assert all(not step.get("earlier") for step in found.steps)


@pytest.mark.parametrize(
    ("step", "complaint"),
    [
        (call("races", "run", []), r"races\.run"),
        (call(4, "free_flexible_resources", {}), r"Nvme\.free_flexible_resources"),
        (call(8, "ask", b"{}\n", line=b'{"on": "races", "do": "run", "args": {}}'), r"races\.run"),
        ({"in the peer": ["verbs", "open_rxe"]}, r"verbs\.open_rxe in the peer"),
    ],
)
def test_a_call_that_no_program_can_repeat(step: Steps, complaint: str, tmp_path: Path) -> None:
    steps = [*exporter(), step, call(3, "set_memory", on=True), check("it holds", holds=False)]
    with pytest.raises(UsageError, match=f"no C program can repeat {complaint}"):
        judged(steps, tmp_path)


@pytest.mark.parametrize("text", ["", "{}", '["a"]', "[1,"])
def test_a_file_that_is_no_recording(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.recording.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"x\.recording\.json: not a recording"):
        load(path)


def test_a_missing_recording(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load(tmp_path / "none.json")
