# SPDX-License-Identifier: GPL-2.0-only
"""The picture of a case: what it shows, what it merges, and that its size has a limit."""

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import harness.guest
import harness.session
from harness.guest.nvme import ENGINE_QUEUE
from harness.report import timeline_marks
from harness.report.timeline import LEFT, MOST_BRIEF_MARKS, MOST_MARKS, RIGHT, LanePicture, Picture, picture
from harness.report.timeline_marks import CALLS, SET_UP, Kind, Lane
from harness.verdict import Evidence, Source


def seen(t: float, source: Source, text: str) -> Evidence:
    return Evidence(t=t, source=source, text=text)


CASE = [
    seen(0.1, "guest", "pci.bind(bdf='0000:01:00.0', name='vfio-pci')"),
    seen(0.18, "trace", "doorbell: sq 0 doorbell = 1"),
    seen(0.2, "guest", "nvme.NvmeEngine(device=Device) = #2"),
    seen(0.3, "guest", "Device.export(feature=0xb, payload=<32 bytes>) = #3"),
    seen(0.4, "guest", "Importer.attach(dmabuf=DmaBuf, start=0, length=0x1000) = #4"),
    seen(0.45, "trace", "doorbell: sq 33 doorbell = 1"),
    seen(0.46, "trace", "doorbell: sq 0 doorbell = 2"),
    seen(0.5, "guest", "Window.store32(offset=0, value=2)"),
    seen(0.6, "guest", "Device.set_memory(on=False)"),
    seen(0.65, "trace", "DMA fault: DMA write by 0000:02:00.0 to 0x4000400000 refused, reason 0x5"),
    seen(0.7, "guest", "Window.store32(offset=0, value=3)"),
    seen(0.8, "guest", "Device.set_memory(on=True)"),
    seen(0.9, "console", "the guest logged: DMA write by 0000:02:00.0 to 0x4000400000 refused, reason 0x5"),
    seen(0.9, "console", "WARNING: drivers/iommu/iova.c:629 at iova_magazine_free_pfns+0x54/0xd0"),
]


def drawn(evidence: list[Evidence], *, brief: bool = False) -> Picture:
    found = picture(evidence, brief=brief)
    assert found
    return found


def lane(of: Picture, name: Lane) -> LanePicture:
    return next(each for each in of.lanes if each.name is name)


def kinds(of: Picture, name: Lane) -> list[Kind]:
    return [mark.kind for mark in lane(of, name).marks if mark.kind is not Kind.CALL]


def test_a_case_without_evidence_has_no_picture() -> None:
    assert picture([]) is None


def test_export_write_doorbell_revoke_and_fault_are_seen_in_their_lanes() -> None:
    found = drawn(CASE)
    assert [each.name for each in found.lanes] == list(Lane)
    assert kinds(found, Lane.GUEST) == [
        Kind.EXPORT,
        Kind.MAP,
        Kind.ACCESS,
        Kind.REVOKE,
        Kind.ACCESS,
        Kind.UNREVOKE,
        Kind.SPLAT,
    ]
    assert kinds(found, Lane.IOMMU) == [Kind.FAULT]
    assert kinds(found, Lane.TRACE) == [Kind.DOORBELL], "neither that of the set-up nor that of the engine's own queue"
    assert {label.text for label in lane(found, Lane.GUEST).labels} >= {"export", "memory off", "splat"}


def test_an_observation_is_the_text_on_hover() -> None:
    (mark,) = lane(drawn(CASE), Lane.IOMMU).marks
    assert mark.title == "0.650 s  DMA fault: DMA write by 0000:02:00.0 to 0x4000400000 refused, reason 0x5"


def test_a_call_is_a_bar_from_the_end_of_the_call_before_it() -> None:
    marks = lane(drawn(CASE), Lane.GUEST).marks
    write, off = marks[4], marks[5]
    assert abs(write.x + write.width - off.x) <= 1
    rung = next(mark for mark in lane(drawn(CASE), Lane.TRACE).marks if mark.kind is Kind.DOORBELL)
    assert write.x < rung.x < write.x + write.width


def test_buffers_are_revoked_from_memory_off_to_memory_on() -> None:
    found = drawn(CASE)
    marks = lane(found, Lane.GUEST).marks
    assert found.revoked == [(marks[5].x, marks[7].x + marks[7].width - marks[5].x)]


def test_a_reset_revokes_while_it_lasts_and_a_close_for_good() -> None:
    calls = [
        "pci.bind(bdf='x')",
        "Device.reset()",
        "DmaBuf.size() = 0x1000",
        "Device.close()",
        "DmaBuf.size() = 0x1000",
    ]
    found = drawn([seen(0.1 * number, "guest", call) for number, call in enumerate(calls)])
    (reset, _), (close, width) = found.revoked
    assert LEFT <= reset < close
    assert close + width == RIGHT


def test_a_refused_call_names_its_errno_and_a_refused_revoke_is_none() -> None:
    found = drawn(
        [seen(1, "guest", "Attachment.map(direction='both'): ENODEV"), seen(2, "guest", "Device.reset(): EIO")]
    )
    assert [mark.label for mark in lane(found, Lane.GUEST).marks] == ["map: ENODEV", "reset: EIO"]
    assert found.revoked == []


def test_a_long_wait_is_cut_out() -> None:
    found = drawn([*CASE, seen(300, "guest", "Process.ended(seconds=300) = True")])
    (cut,) = found.cuts
    assert cut.text == "299 s"
    assert kinds(found, Lane.TRACE) == [Kind.DOORBELL], "the rest keeps its place"
    assert lane(found, Lane.TRACE).marks[1].x - lane(found, Lane.TRACE).marks[0].x > 100


def test_what_happens_at_one_place_is_one_mark() -> None:
    splats = [seen(1, "console", f"WARNING: number {number}") for number in range(16)]
    found = drawn([*CASE, *splats])
    assert "16 x splat" in [mark.label for mark in lane(found, Lane.GUEST).marks]
    assert found.note == ""


@pytest.mark.parametrize("brief", [False, True])
def test_ten_thousand_observations_give_a_small_picture(brief: bool) -> None:
    texts = [("guest", "Device.export() = #1"), ("guest", "Device.reset()"), ("guest", "x" * 9999), ("trace", "y")]
    many = [seen(number**1.1, *texts[number % len(texts)]) for number in range(10_000)]  # type: ignore[arg-type]
    found = drawn(many, brief=brief)
    assert sum(len(each.marks) for each in found.lanes) <= (MOST_BRIEF_MARKS if brief else 2 * MOST_MARKS)
    assert found.note == "10000 observations: neighbours of one kind are drawn as one"
    assert len(repr(found)) < 150_000
    merged = lane(found, Lane.GUEST).marks[0].title
    assert re.match(r"\d+ observations from ", merged)


def test_a_brief_picture_keeps_the_marks_that_count_most() -> None:
    more = [seen(2 + number / 100, "guest", "Importer.attach(dmabuf=DmaBuf) = #4") for number in range(50)]
    found = drawn([*CASE, *more], brief=True)
    assert kinds(found, Lane.IOMMU) == [Kind.FAULT]
    assert Kind.SPLAT in kinds(found, Lane.GUEST)
    assert lane(found, Lane.GUEST).plain.startswith("M")


def test_hostile_text_is_printable() -> None:
    (mark,) = lane(drawn([seen(0, "host", "\x1b[2J\x00<script>" + "A" * 1_000_000)]), Lane.HOST).marks
    assert mark.title.startswith("0.000 s  \\x1b[2J\\x00<script>AAA")
    assert len(mark.title) < 200


@given(
    st.lists(
        st.builds(
            Evidence,
            t=st.floats(allow_nan=False),
            source=st.sampled_from(["host", "qmp", "trace", "console", "guest"]),
            text=st.sampled_from([item.text for item in CASE]),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_every_mark_lies_in_the_picture(evidence: list[Evidence]) -> None:
    found = picture(evidence)
    for each in found.lanes if found else []:
        assert all(mark.x >= LEFT and mark.x + mark.width <= RIGHT + 2 for mark in each.marks)


def _defined(*packages: Path) -> set[str]:
    """Return ``Class.method``, inherited ones too, and ``module.function`` of each definition in some packages."""
    methods: dict[str, set[str]] = {}
    bases: dict[str, set[str]] = {}
    found = set()
    for file in (file for package in packages for file in package.rglob("*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(f"{file.stem}.{node.name}")
            if isinstance(node, ast.ClassDef):
                names = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
                methods.setdefault(node.name, set()).update(names)
                bases.setdefault(node.name, set()).update(each.id for each in node.bases if isinstance(each, ast.Name))
    for name, known in methods.items():
        inherited = {method for base in bases[name] for method in methods.get(base, set())}
        found |= {f"{name}.{method}" for method in known | inherited}
    return found


def test_the_table_names_calls_that_exist() -> None:
    defined = _defined(Path(harness.guest.__path__[0]), Path(harness.session.__path__[0]))
    assert {name.partition("(")[0] for name in (*CALLS, *SET_UP)} - defined == set()
    assert timeline_marks.ENGINE_QUEUE == ENGINE_QUEUE
