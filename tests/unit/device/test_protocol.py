# SPDX-License-Identifier: GPL-2.0-only
"""Messages of vfio-user as bytes."""

import pytest

from harness.device.protocol import ERROR, HEADER, MAX_SIZE, NO_REPLY, REPLY, Framing, Message, ProtocolError

FIRST = Message(7, 9, b"abc")
SECOND = Message(8, 13, flags=NO_REPLY)


def test_a_message_has_the_layout_of_the_specification() -> None:
    assert FIRST.encode() == bytes.fromhex("0700 0900 13000000 00000000 00000000") + b"abc"
    assert FIRST.failure(19).encode() == bytes.fromhex("0700 0900 10000000 21000000 13000000")


@pytest.mark.parametrize("step", [1, 5, 16, 100])
def test_messages_are_found_however_the_stream_is_cut(step: int) -> None:
    stream, framing = FIRST.encode() + SECOND.encode() + FIRST.reply(b"x").encode(), Framing()
    found = [each for at in range(0, len(stream), step) for each in framing.feed(stream[at : at + step])]
    assert found == [FIRST, SECOND, Message(7, 9, b"x", REPLY)]
    assert [each.is_reply for each in found] == [False, False, True]
    assert [each.wants_reply for each in found] == [True, False, True]


@pytest.mark.parametrize("size", [0, 15, MAX_SIZE + 1])
def test_an_impossible_size_is_refused(size: int) -> None:
    with pytest.raises(ProtocolError, match=f"claims a size of {size}"):
        list(Framing().feed(HEADER.pack(1, 9, size, 0, 0)))


def test_a_failure_is_a_reply_with_an_errno() -> None:
    failure = FIRST.failure(22)
    assert failure.is_reply
    assert (failure.flags & ERROR, failure.error, failure.body) == (ERROR, 22, b"")
