# SPDX-License-Identifier: GPL-2.0-only
"""The timeline of a case as text: two observers, in order of time."""

from harness.report.timeline_text import WIDTH, timeline_text
from harness.verdict import Evidence

CALLS = [
    Evidence(t=0.1, source="guest", text="pci.bind(bdf='0000:01:00.0', name='vfio-pci')"),
    Evidence(t=0.3, source="guest", text="Device.reset()"),
    Evidence(t=0.2, source="guest", text="Device.export(feature=0xb, payload=<32 bytes>) = #5"),
    Evidence(t=0.4, source="trace", text="doorbell: sq 0 = 1"),
    Evidence(t=0.5, source="trace", text="DMA fault: 0x2000000\nmore"),
    Evidence(t=0.7, source="guest", text="rpc.reset_all(keep=[]) = []"),
    Evidence(t=0.6, source="console", text="WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1/0x2"),
]


def test_each_line_has_time_observer_and_meaning() -> None:
    assert timeline_text(CALLS) == [
        "   0.100 guest call      pci.bind(bdf='0000:01:00.0', name='vfio-pci')",
        "   0.200 guest export    Device.export(feature=0xb, payload=<32 bytes>) = #5",
        "   0.300 guest reset     Device.reset()",
        "   0.400 host  doorbell  doorbell: sq 0 = 1",
        "   0.500 host  fault     DMA fault: 0x2000000",
    ]


def test_a_long_timeline_keeps_what_has_a_meaning_and_the_end() -> None:
    many = [Evidence(t=number / 1000, source="guest", text=f"Device.read(at={number})") for number in range(90)]
    assert timeline_text([*CALLS, *many], most=3) == ["(92 more observations)", *timeline_text(CALLS)[2:]]
    assert timeline_text(many, most=1)[1:] == ["   0.089 guest call  Device.read(at=89)"]


def test_hostile_and_endless_text_is_one_short_line() -> None:
    (line,) = timeline_text([Evidence(t=0, source="guest", text="\x1b[31m" + "x" * 10_000)])
    assert len(line) <= WIDTH
    assert line.isprintable()
    assert timeline_text([]) == []
