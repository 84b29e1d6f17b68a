# SPDX-License-Identifier: MIT
"""L{gmesh.client.stream_frames}: frames go in whole or in pieces, and come out as they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmesh.client.stream_frames import (
    FIN,
    MAX_DATA,
    FrameDecoder,
    FrameKind,
    Signal,
    data_head,
    reset_frame,
    stop_frame,
)
from gmesh.errors import FrameRefused
from gmesh.stream_errors import StreamCode

CODES = st.sampled_from(StreamCode)
DATA = st.lists(st.binary(max_size=300), max_size=8)


def joined(found: list[bytes | Signal]) -> list[bytes | Signal]:
    """Neighbouring pieces as one: how a stream was cut says nothing."""
    result: list[bytes | Signal] = []
    for each in found:
        if isinstance(each, bytes) and result and isinstance(result[-1], bytes):
            result[-1] += each
        else:
            result.append(each)
    return result


@pytest.mark.parametrize(
    ("frame", "octets"),
    [
        (data_head(5) + b"hello", "00 000005 68656c6c6f"),
        (data_head(65_536), "00 010000"),
        (FIN, "01 000000"),
        (stop_frame(StreamCode.DONE), "02 000002 0000"),
        (reset_frame(StreamCode.REVOKED, "gone"), "03 000006 0009 676f6e65"),
        (reset_frame(StreamCode.ABORTED), "03 000002 0007"),
    ],
)
def test_a_frame_is_these_octets(frame: bytes, octets: str) -> None:
    """As the local API documents them."""
    assert frame == bytes.fromhex(octets)


@given(DATA, st.booleans(), CODES, st.text(max_size=60), st.data())
def test_frames_come_out_as_they_went_in_however_they_are_cut(
    pieces: list[bytes], ends: bool, code: StreamCode, detail: str, data: st.DataObject
) -> None:
    """A naive twin: the bytes joined, and the signals behind them."""
    sent = b"".join(data_head(len(piece)) + piece for piece in pieces)
    expected: list[bytes | Signal] = [b"".join(pieces)] if any(pieces) else []
    if ends:
        sent += FIN
        expected.append(Signal(FrameKind.FIN))
    sent += stop_frame(code) + reset_frame(code, detail)
    expected += [Signal(FrameKind.STOP, code), Signal(FrameKind.RESET, code, detail)]
    decoder = FrameDecoder()
    found: list[bytes | Signal] = []
    while sent:
        size = data.draw(st.integers(1, len(sent)))
        found += decoder.feed(sent[:size])
        sent = sent[size:]
    assert joined(found) == expected
    assert (decoder.finished, decoder.reset) == (ends, True)


def test_what_came_at_once_is_one_piece() -> None:
    sent = data_head(2) + b"ab" + data_head(0) + data_head(1) + b"c" + FIN + stop_frame()
    assert FrameDecoder().feed(sent) == [b"abc", Signal(FrameKind.FIN), Signal(FrameKind.STOP)]


def test_data_is_handed_on_before_its_frame_is_whole() -> None:
    decoder = FrameDecoder()
    assert decoder.feed(data_head(10) + b"abc") == [b"abc"]
    assert decoder.feed(b"defg") == [b"defg"]
    assert decoder.feed(b"hij" + FIN) == [b"hij", Signal(FrameKind.FIN)]


@given(st.text(min_size=60, max_size=400))
def test_a_long_reason_is_cut_between_two_characters(detail: str) -> None:
    frame = reset_frame(StreamCode.DENIED, detail)
    (signal,) = FrameDecoder().feed(frame)
    assert len(frame) <= 4 + 2 + 200
    assert isinstance(signal, Signal)
    assert detail.startswith(signal.detail)
    assert len(detail.encode()) <= 200 or len(signal.detail.encode()) > 196


def test_an_unknown_code_reads_as_refused() -> None:
    found = FrameDecoder().feed(bytes.fromhex("02 000002 ffff 03 000003 ffff ff"))
    assert found == [
        Signal(FrameKind.STOP, StreamCode.REFUSED),
        Signal(FrameKind.RESET, StreamCode.REFUSED, "�"),
    ]


@pytest.mark.parametrize(
    "octets",
    [
        "04 000000",
        "ff 000001 00",
        "00 010001",
        "00 ffffff",
        "01 000001 00",
        "02 000001 00",
        "02 000003 000000",
        "03 000001 00",
        "03 0000cb",
        "01 000000 01 000000",
        "01 000000 00 000001 61",
        "03 000002 0007 00 000000",
        "03 000002 0007 03 000002 0007",
    ],
)
def test_what_breaks_the_protocol_is_refused(octets: str) -> None:
    """Also a byte at a time, and never later than its head."""
    with pytest.raises(FrameRefused):
        FrameDecoder().feed(bytes.fromhex(octets))
    decoder = FrameDecoder()
    with pytest.raises(FrameRefused):
        for octet in bytes.fromhex(octets):
            decoder.feed(bytes((octet,)))


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_anything_at_all_is_taken_or_refused(pieces: list[bytes]) -> None:
    """What is handed on is never more than what was fed, and what is held never more than a RESET."""
    decoder = FrameDecoder()
    fed = handed = 0
    for piece in pieces:
        fed += len(piece)
        try:
            found = decoder.feed(piece)
        except FrameRefused:
            return
        handed += sum(len(each) for each in found if isinstance(each, bytes))
        assert handed <= fed
        assert len(decoder._held) <= 4 + 2 + 200


@pytest.mark.parametrize("size", [-1, MAX_DATA + 1])
def test_data_beyond_its_bound_is_not_framed(size: int) -> None:
    with pytest.raises(ValueError, match="65536"):
        data_head(size)


def test_data_is_cut_without_a_copy() -> None:
    """Views of what was fed, signals in their place between them; the rest of a frame is what comes next."""
    fed = data_head(3) + b"one" + data_head(5) + b"two" + FIN
    decoder = FrameDecoder()
    [views] = decoder.cut(fed[:11])
    assert isinstance(views, list)
    assert [bytes(view) for view in views] == [b"one"]
    assert all(view.obj == fed[:11] for view in views)
    [views, signal] = decoder.cut(fed[11:14] + b"!!" + FIN)
    assert isinstance(views, list) and signal == Signal(FrameKind.FIN)
    assert b"".join(views) == b"two!!"
