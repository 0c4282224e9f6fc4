# SPDX-License-Identifier: GPL-2.0-only
"""The wire format, and input from an untrusted guest."""

import json
import struct
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import AgentError, CapabilityMissing, ImporterRefused, KernelErrno
from harness.guest.rpc import Server
from harness.session import wire
from harness.session.client import Agent
from harness.session.device import DmaBuf
from harness.session.export import MAINLINE, ExportUapi
from harness.session.wire import BadLine, Ref


@given(st.dictionaries(st.text(max_size=5), st.binary(max_size=50) | st.integers() | st.none(), max_size=4))
def test_the_agent_decodes_what_the_host_encodes(args: dict[str, bytes | int | None]) -> None:
    line = wire.request(3, Ref(5), "write", args, False)
    agent = Server.__new__(Server)
    got = json.loads(line, object_hook=agent._decode)
    assert got == {"id": 3, "on": 5, "do": "write", "args": args, "thread": False}
    assert line.count(b"\n") == 1


@given(st.binary(max_size=200))
def test_a_line_of_the_guest_raises_only_bad_line(line: bytes) -> None:
    try:
        message = wire.reply(line)
    except BadLine:
        return
    wire.failure(message)


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"[" * 100000, b'{"errno": "x"}', b'{"id": []}', b'{"$bytes": 3}', b'{"$bytes": "x"}']
)
def test_bad_lines(line: bytes) -> None:
    with pytest.raises(BadLine):
        wire.reply(line)


def test_a_failure_names_the_call_that_was_refused() -> None:
    error = wire.failure({"id": 1, "errno": 19, "call": "IOMMU_IOAS_MAP_FILE"})
    assert isinstance(error, KernelErrno)
    assert (error.errno, error.name, error.call) == (19, "ENODEV", "IOMMU_IOAS_MAP_FILE")
    assert isinstance(wire.failure({"refused": "IBV_WC_REM_ACCESS_ERR"}), ImporterRefused)
    assert wire.failure({"ok": None}) is None


def test_a_guests_text_is_bounded_and_has_no_control_characters() -> None:
    error = wire.failure({"defect": "\x1b[2J" + "x" * 10000 + "\x07\nlast"})
    assert isinstance(error, AgentError)
    assert len(str(error)) < wire.TEXT_LIMIT + 100
    assert str(error).endswith("x\\x07\nlast")


def test_a_request_longer_than_the_agents_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="agent takes up to"):
        wire.request(1, "nvme", "write", {"data": bytes(wire.LINE_LIMIT)}, False)


def test_the_export_payload_of_mainline() -> None:
    payload = MAINLINE.payload(2, [(0x1000, 0x2000), (0, 0x1000)], 0o2000002)
    assert payload == struct.pack("<4I4Q", 2, 0o2000002, 0, 2, 0x1000, 0x2000, 0, 0x1000)


def test_the_export_payload_of_one_range() -> None:
    first = ExportUapi("v1", 3, single=True)
    assert first.payload(2, [(0x1000, 0x2000)], 2) == struct.pack("@IIIQ", 2, 2, 0x1000, 0x2000)
    with pytest.raises(CapabilityMissing, match="one range"):
        first.payload(2, [(0, 0x1000), (0x2000, 0x1000)], 2)


def test_offset_of_finds_a_byte_of_the_region_in_the_buffer() -> None:
    agent = cast(Agent, SimpleNamespace(set_name=lambda ref, name: None))
    buffer = DmaBuf(agent, Ref(1), 0, [(0x3000, 0x1000), (0x1000, 0x2000)])
    assert [buffer.offset_of(offset) for offset in (0x3004, 0x1000, 0x2FFF)] == [4, 0x1000, 0x2FFF]
    with pytest.raises(ValueError, match="0x4000"):
        buffer.offset_of(0x4000)
