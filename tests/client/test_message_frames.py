# SPDX-License-Identifier: MIT
"""The frames of messages on the local socket: whole whatever the pieces, and refused for a reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmesh.client.message_frames import (
    MAX_BODY,
    FrameType,
    GivenMessage,
    MessageFrame,
    MessageFrameReader,
    SendRequest,
    failed_body,
    read_failed,
)
from gmesh.errors import FrameRefused

u32 = st.integers(0, 2**32 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
frames = st.builds(MessageFrame, st.sampled_from(FrameType), u32, st.binary(max_size=200))


@given(st.lists(frames, max_size=10), st.data())
def test_frames_come_out_as_they_went_in(sent: list[MessageFrame], data: st.DataObject) -> None:
    """However the bytes are cut."""
    wire, reader, found = b"".join(frame.encode() for frame in sent), MessageFrameReader(), []
    while wire:
        size = data.draw(st.integers(1, len(wire)))
        found += reader.feed(wire[:size])
        wire = wire[size:]
    assert found == sent


@given(st.binary(max_size=100))
def test_garbage_is_refused_and_nothing_else(garbage: bytes) -> None:
    """Frames, bodies: each is read or refused."""
    readers = (MessageFrameReader().feed, SendRequest.decode, GivenMessage.decode, read_failed)
    for read in readers:
        try:
            read(garbage)
        except FrameRefused as refusal:
            assert refusal.reason == "malformed"


@given(st.builds(SendRequest, texts, texts, st.binary(max_size=99), st.integers(0, 4000), texts))
def test_a_send_is_read_as_it_was_written(request: SendRequest) -> None:
    """All its fields."""
    assert SendRequest.decode(request.encode()) == request


roles = st.lists(st.text("abc", min_size=1, max_size=5), max_size=3).map(tuple)
node_ids = st.binary(min_size=16, max_size=16).map(bytes.hex)


@given(st.builds(GivenMessage, u32, texts, node_ids, roles, st.binary(max_size=99), texts, st.booleans()))
def test_a_message_is_read_as_it_was_written(message: GivenMessage) -> None:
    """All its fields."""
    assert GivenMessage.decode(message.encode()) == message


@given(texts, texts)
def test_a_failure_is_read_as_it_was_written(slug: str, detail: str) -> None:
    """Slug and detail."""
    assert read_failed(failed_body(slug, detail)) == (slug, detail)


def test_the_bytes_are_those_of_the_manual() -> None:
    """A program in another language writes them from there."""
    send = MessageFrame(FrameType.SEND, 7, SendRequest("boiler", "readings", b"21.5", 10.0).encode())
    assert send.encode().hex() == (
        "0000001c000000070000271006626f696c65720872656164696e67730032312e35"
    ).replace("1c", "%02x" % (4 + 4 + 7 + 9 + 1 + 4), 1)
    done = MessageFrame(FrameType.DONE, 1, b"ok")
    assert done.encode().hex() == "04000006000000016f6b"


@pytest.mark.parametrize(
    "wire",
    [b"\x63\0\0\4\0\0\0\0", b"\0\0\0\3\0\0\0\0", b"\0\xff\xff\xff\0\0\0\0"],
    ids=["kind", "short", "long"],
)
def test_what_breaks_the_protocol_is_refused(wire: bytes) -> None:
    """A kind that is none, a frame without a tag, one that is too long."""
    with pytest.raises(FrameRefused):
        MessageFrameReader().feed(wire)


def test_limits_hold_for_who_writes() -> None:
    """A body and a text that are too long."""
    with pytest.raises(FrameRefused):
        MessageFrame(FrameType.ANSWER, 1, bytes(MAX_BODY + 1)).encode()
    with pytest.raises(FrameRefused):
        SendRequest("n" * 256, "s", b"", 1.0).encode()
