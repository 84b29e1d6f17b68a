# SPDX-License-Identifier: MIT
"""Frames in records, records in a byte stream, the preamble."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmesh.errors import FrameRefused
from gmesh.wire.frames import Kind, is_data, is_optional, iter_frames, pack_frame
from gmesh.wire.limits import INITIATOR_READS, MAX_FRAME_BODY, MAX_RECORD, MESSAGE_1, RESPONDER_READS, TAG
from gmesh.wire.preamble import PREAMBLE_SIZE, encode_preamble, end_prologue, hop_prologue, read_preamble
from gmesh.wire.records import RecordReader, frame_record
from gmesh.wire.suites import Suite

NETWORK = "00112233445566778899aabbccddeeff"


def test_a_frame_is_length_kind_body() -> None:
    """u16 length of the body, u8 kind, body."""
    assert pack_frame(Kind.PING, b"body").hex() == "0004" + "02" + b"body".hex()


def test_a_frame_body_has_a_limit() -> None:
    """The largest body makes a full record, one byte more is refused."""
    assert len(pack_frame(Kind.LSA, bytes(MAX_FRAME_BODY))) + TAG == MAX_RECORD
    with pytest.raises(FrameRefused):
        pack_frame(Kind.LSA, bytes(MAX_FRAME_BODY + 1))


@given(bodies=st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=50)), min_size=1, max_size=30))
def test_frames_of_a_record_are_found(bodies: list[tuple[int, bytes]]) -> None:
    """Kinds, starts and ends of all frames, from bytes and from a writable view."""
    record = b"".join(pack_frame(kind, body) for kind, body in bodies)
    for buffer in (record, memoryview(bytearray(record))):
        frames = iter_frames(buffer)
        assert [(kind, bytes(buffer[start + 3 : end])) for kind, start, end in frames] == bodies
        assert frames[0][1] == 0 and frames[-1][2] == len(record)


@pytest.mark.parametrize(
    "record", [b"", b"\0", b"\0\0", b"\0\x01\x02", pack_frame(2, b"x") + b"\0", b"\xff\xff\x02" + bytes(99)]
)
def test_a_record_that_does_not_end_with_a_frame_is_refused(record: bytes) -> None:
    """All or nothing: no frame of a bad record is handed out."""
    with pytest.raises(FrameRefused) as refusal:
        iter_frames(record)
    assert refusal.value.reason == "bad-frame"


def test_kinds_have_their_classes() -> None:
    """Data kinds are those with a path header; kinds from 128 on may be ignored."""
    assert {kind.name for kind in Kind if is_data(kind)} == {
        "E2E_INIT",
        "E2E_RESP",
        "E2E_DATA",
        "UNREACH",
        "DROPPED",
    }
    assert not any(is_optional(kind) for kind in Kind)
    assert is_optional(128) and not is_data(128)


def _cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[low:high] for low, high in pairwise(edges)]


@given(
    messages=st.lists(st.binary(min_size=TAG + 1, max_size=300), max_size=10),
    cuts=st.lists(st.integers(0, 10_000), max_size=30),
)
def test_records_survive_any_chunking(messages: list[bytes], cuts: list[int]) -> None:
    """However the stream is cut, the same messages come out."""
    reader = RecordReader()
    stream = b"".join(frame_record(message) for message in messages)
    found = [bytes(record) for chunk in _cut(stream, cuts) for record in reader.feed(chunk)]
    assert found == messages
    assert reader.held == 0


def test_a_full_record_byte_by_byte() -> None:
    """The largest record arrives whole, and no more than it is ever held."""
    message = bytes(MAX_RECORD)
    reader = RecordReader()
    stream = frame_record(message)
    found: list[memoryview] = []
    for at in range(len(stream)):
        assert not found
        found = reader.feed(stream[at : at + 1])
        assert reader.held <= MAX_RECORD + 2
    assert [bytes(record) for record in found] == [message]


def test_a_record_too_short_to_hold_anything_is_refused() -> None:
    """A sealed record has a tag and at least one byte."""
    for size in range(TAG + 1):
        with pytest.raises(FrameRefused) as refusal:
            RecordReader().feed(size.to_bytes(2, "big"))
        assert refusal.value.reason == "record-size"


def test_handshake_records_are_bounded_before_they_arrive() -> None:
    """A large length is refused at once during the handshake and fine after it."""
    with pytest.raises(FrameRefused):
        RecordReader(RESPONDER_READS).feed((MESSAGE_1 + 1).to_bytes(2, "big"))
    reader = RecordReader(RESPONDER_READS)
    large = bytes(60_000)
    one_segment = frame_record(bytes(MESSAGE_1)) + frame_record(bytes(64)) + frame_record(large)
    assert [len(record) for record in reader.feed(one_segment)] == [MESSAGE_1, 64, len(large)]
    with pytest.raises(FrameRefused):
        RecordReader(INITIATOR_READS).feed(frame_record(large))
    with pytest.raises(FrameRefused):
        RecordReader(RESPONDER_READS).feed(b"\0\0")


def test_frame_record_refuses_what_has_no_length() -> None:
    """Neither empty nor longer than a Noise message."""
    for size in (0, MAX_RECORD + 1):
        with pytest.raises(FrameRefused):
            frame_record(bytes(size))


@given(garbage=st.binary(max_size=500))
def test_garbage_in_a_stream_is_cut_or_refused(garbage: bytes) -> None:
    """Only FrameRefused comes out of the reader, and what it holds is bounded."""
    reader = RecordReader(RESPONDER_READS)
    try:
        reader.feed(garbage)
    except FrameRefused as refusal:
        assert refusal.reason == "record-size"
    assert reader.held <= MAX_RECORD + 2


@pytest.mark.parametrize("suite", Suite)
def test_a_preamble_is_read_back(suite: Suite) -> None:
    """Eight bytes; only all of them give the suite, and what follows is not looked at."""
    preamble = encode_preamble(suite)
    assert preamble == b"gmesh\x01" + bytes((suite, 0))
    for size in range(PREAMBLE_SIZE):
        assert read_preamble(preamble[:size], Suite) is None
    assert read_preamble(preamble + b"more", Suite) is suite


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"G", "not-gmesh"),
        (b"GET / HTTP/1.1\r\n", "not-gmesh"),
        (b"\x16\x03\x01", "not-gmesh"),
        (b"gmesh\x02", "wire-version"),
        (b"gmesh\x01\x00", "unknown-suite"),
        (b"gmesh\x01\x05\x00", "unknown-suite"),
        (b"gmesh\x01\x02\x00", "suite-not-allowed"),
        (b"gmesh\x01\x01\x01", "not-gmesh"),
    ],
)
def test_a_wrong_preamble_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    """As soon as the wrong byte is there, before any key operation."""
    with pytest.raises(FrameRefused) as refusal:
        read_preamble(data, {Suite.CHACHAPOLY_SHA256})
    assert refusal.value.reason == reason


@given(data=st.binary(max_size=12))
def test_any_preamble_is_read_or_refused(data: bytes) -> None:
    """Only FrameRefused comes out."""
    with suppress(FrameRefused):
        assert read_preamble(data, Suite) in {None, *Suite}


def test_suites_have_names_and_numbers() -> None:
    """The Noise names of the four suites, parsed with and without their pattern."""
    assert [suite.noise_name("XX") for suite in Suite] == [
        "Noise_XX_25519_ChaChaPoly_SHA256",
        "Noise_XX_25519_AESGCM_SHA256",
        "Noise_XX_25519_ChaChaPoly_BLAKE2s",
        "Noise_XX_25519_AESGCM_BLAKE2s",
    ]
    for suite in Suite:
        assert Suite.parse(suite.noise_name("XX")) is Suite.parse(suite.label) is suite
    with pytest.raises(FrameRefused):
        Suite.parse("Noise_XX_448_AESGCM_SHA256")


def test_prologues_bind_what_both_ends_must_agree_on() -> None:
    """Preamble and network between neighbours; version, suite, network and both handles end to end."""
    suite = Suite.AESGCM_BLAKE2S
    assert hop_prologue(suite, NETWORK) == b"gmesh\x01\x04\x00" + bytes.fromhex(NETWORK)
    source, destination = b"source__", b"destinat"
    expected = b"gmesh-e2e/1\x04" + bytes.fromhex(NETWORK) + source + destination
    assert end_prologue(suite, NETWORK, source, destination) == expected


@pytest.mark.parametrize("network", ["", "zz" * 16, "00" * 15, "00" * 17])
def test_a_bad_network_id_is_refused(network: str) -> None:
    """32 hexadecimal digits, nothing else."""
    with pytest.raises(FrameRefused):
        hop_prologue(Suite.AESGCM_SHA256, network)


def test_a_bad_handle_is_refused() -> None:
    """A handle has eight bytes."""
    with pytest.raises(FrameRefused):
        end_prologue(Suite.AESGCM_SHA256, NETWORK, b"short", b"destinat")
