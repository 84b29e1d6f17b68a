# SPDX-License-Identifier: MIT
"""Message bodies: what is written is read back, limits hold both ways, only FrameRefused comes out."""

from __future__ import annotations

import dataclasses
import json
import struct
import tracemalloc
from contextlib import suppress
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire.wire_samples import DECODERS, DOCUMENT, ENCODED, LARGE, SAMPLES, STRATEGIES, A, B

from gmesh.errors import FrameRefused
from gmesh.wire import messages as m
from gmesh.wire import stream_messages as s
from gmesh.wire.frames import iter_frames, pack_frame
from gmesh.wire.handshake import HandshakePayload
from gmesh.wire.limits import (
    MAX_CERTIFICATE,
    MAX_DATAGRAM_DATA,
    MAX_DOCUMENT,
    MAX_DOCUMENT_CHUNK,
    MAX_FRAME_BODY,
    MAX_HANDSHAKE_DOCUMENT_BYTES,
    MAX_HANDSHAKE_PAYLOAD,
    MAX_NODE_RECORD,
    MAX_NUMBER,
)

FORMATS = Path(__file__).parent.parent / "fuzz" / "seeds" / "wire.json"
NAMES = sorted(SAMPLES)


@pytest.mark.parametrize("name", sorted(ENCODED))
def test_the_published_formats_do_not_change(name: str) -> None:
    """Each sample still encodes to the bytes that were published."""
    assert ENCODED[name].hex() == json.loads(FORMATS.read_text())[name][0]


def test_every_body_has_a_sample() -> None:
    """No message class is left out of these tests."""
    classes = {
        name for room in (m, s) for name in room.__all__ if dataclasses.is_dataclass(getattr(room, name))
    }
    assert classes <= set(SAMPLES)
    assert set(SAMPLES) == set(STRATEGIES)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40)
@given(data=st.data())
def test_a_body_is_read_back(name: str, data: st.DataObject) -> None:
    """Decoding what was encoded gives an equal message, from bytes and from a memoryview."""
    message = data.draw(STRATEGIES[name])
    encoded = message.encode()
    assert len(encoded) <= MAX_FRAME_BODY
    assert type(message).decode(encoded) == message
    assert type(message).decode(memoryview(bytearray(encoded))) == message


@pytest.mark.parametrize("name", NAMES)
def test_a_decoded_body_does_not_keep_the_record(name: str) -> None:
    """Fields are copies: the record may be patched or released afterwards."""
    buffer = bytearray(ENCODED[name])
    message = DECODERS[name](memoryview(buffer))
    buffer[:] = b"\xff" * len(buffer)
    buffer.clear()
    assert message == SAMPLES[name]


@pytest.mark.parametrize("name", sorted(DECODERS))
@settings(max_examples=60)
@given(garbage=st.one_of(st.binary(max_size=80), st.binary(min_size=2000, max_size=2400)))
def test_garbage_is_refused_and_nothing_else(name: str, garbage: bytes) -> None:
    """A decoder returns or raises FrameRefused, whatever the bytes."""
    try:
        DECODERS[name](garbage)
    except FrameRefused as refusal:
        assert refusal.reason in {"malformed", "bad-frame"}


@pytest.mark.parametrize("name", NAMES)
def test_every_truncation_is_refused(name: str) -> None:
    """No proper beginning of a body is a body, except where the end is free data."""
    encoded = ENCODED[name]
    free = {"Datagram": range(21, 25), "EchoMessage": range(17, 24), "StreamData": range(17, 20)}
    whole = set(free.get(name, ()))
    for size in set(range(len(encoded))) - whole:
        with pytest.raises(FrameRefused):
            DECODERS[name](encoded[:size])


EXTENSIBLE = {"Hello", "E2eInit", "E2eResponse", "StreamOpen", "StreamAccept"}
FREE_END = {"Datagram", "EchoMessage", "MessageOutcome", "StreamData"}


@pytest.mark.parametrize("name", sorted(set(NAMES) - FREE_END))
def test_bytes_at_the_end_are_refused_or_skipped(name: str) -> None:
    """Only the bodies meant to grow ignore what a later version appends, and only up to its limit."""
    encoded = ENCODED[name]
    if name in EXTENSIBLE:
        assert DECODERS[name](encoded + b"later" * 10) == SAMPLES[name]
        encoded += bytes(1024)
    with pytest.raises(FrameRefused):
        DECODERS[name](encoded + b"\0")


PARAMETERS = m.EndParameters(b"8 bytes!", 5)
OF_AN_END = ("E2eInit", "E2eResponse")


@pytest.mark.parametrize("name", OF_AN_END)
@given(
    before=st.lists(st.tuples(st.integers(2, 255), st.binary(max_size=60)), max_size=5),
    more=st.binary(max_size=20),
    after=st.binary(max_size=60),
)
def test_what_an_end_says_of_itself_is_found_among_other_extensions(
    name: str, before: list[tuple[int, bytes]], more: bytes, after: bytes
) -> None:
    """Extensions of other types are skipped, one of a later version may be longer, garbage may follow."""
    own = PARAMETERS.encode()
    assert own.hex() == "01000c" + b"8 bytes!".hex() + "00000005"
    others = b"".join(struct.pack(">BH", kind, len(body)) + body for kind, body in before)
    longer = struct.pack(">BH", 1, 12 + len(more)) + own[3:] + more
    read = DECODERS[name](ENCODED[name] + others + longer + after)
    assert read == dataclasses.replace(SAMPLES[name], parameters=PARAMETERS)


@pytest.mark.parametrize("name", OF_AN_END)
@given(size=st.integers(0, 14), tail=st.binary(max_size=400))
def test_extensions_that_are_no_extensions_are_skipped(name: str, size: int, tail: bytes) -> None:
    """One that is cut short, or too short, says nothing; whatever stands there, the handshake goes on."""
    cut = DECODERS[name](ENCODED[name] + PARAMETERS.encode()[:size])
    short = DECODERS[name](ENCODED[name] + b"\x01\x00\x0b" + bytes(11))
    assert cut == short == SAMPLES[name]
    read = DECODERS[name](ENCODED[name] + tail)
    assert dataclasses.replace(read, parameters=m.EndParameters()) == SAMPLES[name]


def test_a_lying_count_costs_no_memory() -> None:
    """A short body that promises a lot is refused before anything is set aside."""
    for name, decoder in DECODERS.items():
        for filler, size in product((b"\xff", b"\x01", b"\x7f"), (2, 4, 10, 60)):
            tracemalloc.start()
            with suppress(FrameRefused):
                decoder(filler * size)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 50_000, name


TOO_MUCH: list[Any] = [
    HandshakePayload(1, b""),
    HandshakePayload(1, bytes(MAX_CERTIFICATE + 1)),
    HandshakePayload(2**32, b"c"),
    HandshakePayload(1, b"c", (b"g",) * 5),
    HandshakePayload(1, b"c", (b"",)),
    HandshakePayload(1, b"c", (bytes(MAX_HANDSHAKE_DOCUMENT_BYTES), b"g")),
    dataclasses.replace(SAMPLES["Hello"], boot_id=b"short"),
    dataclasses.replace(SAMPLES["Hello"], digest=bytes(2047)),
    dataclasses.replace(SAMPLES["Hello"], serial=MAX_NUMBER + 1),
    dataclasses.replace(SAMPLES["Hello"], wall_ms=-1),
    dataclasses.replace(SAMPLES["Hello"], software="x" * 65),
    dataclasses.replace(SAMPLES["Hello"], software="a\nb"),
    dataclasses.replace(SAMPLES["Hello"], observed="\N{LATIN SMALL LETTER A WITH ACUTE}"),
    dataclasses.replace(SAMPLES["E2eInit"], parameters=m.EndParameters(b"short")),
    dataclasses.replace(SAMPLES["E2eResponse"], parameters=m.EndParameters(bytes(8), 2**32)),
    m.Ping(2**64, 0),
    m.Lsa(()),
    m.Lsa((bytes(MAX_NODE_RECORD + 1),)),
    m.Lsa((b"r",) * 257),
    m.Ihave((m.RecordNumber(A, 64, 0),)),
    m.Ihave((m.RecordNumber(b"short", 0, 0),)),
    m.Ihave((m.RecordNumber(A, 0, 0),) * 4000),
    m.SyncDigest(()),
    m.SyncDigest(((1, bytes(8)), (0, bytes(8)))),
    m.SyncDigest(((1, bytes(8)), (1, bytes(8)))),
    m.SyncDigest(((256, bytes(8)),)),
    m.SyncList((m.RecordSummary(A, 0, 0, b"toolong"),)),
    m.SyncWant((m.RecordKey(A, -1),)),
    m.CertRequest(()),
    m.CertRequest((m.CertificateKey(A, 1),) * 65),
    m.CertAnswer((b"",)),
    m.DocumentPush(1, b"short", 1, 0, b"x"),
    m.DocumentPush(1, bytes(32), MAX_DOCUMENT + 1, 0, b""),
    m.DocumentPush(1, bytes(32), 5, 0, b""),
    m.DocumentPush(1, bytes(32), 5, 0, b"four"),
    m.DocumentPush(1, bytes(32), MAX_DOCUMENT_CHUNK + 1, 5, b"x"),
    m.DocumentRequest(1, bytes(32), 5),
    m.DocumentRequest(-1),
    m.CommandRequest(MAX_NUMBER + 1),
    m.Unreach(A, B, b""),
    m.Unreach(A, b"", b"r"),
    m.Dropped(A, 2**32),
    m.PathRequest(2**32, A),
    m.PathRequest(1, A, "x" * 64),
    m.PathReply(1, (A,) * 66),
    m.PathReply(1, (A, b"")),
    m.E2eInit(b"c", 1, 0),
    m.E2eInit(b"", 1, 1),
    m.E2eResponse(2**32, 1),
    m.Datagram("", 1, b""),
    m.Datagram("UPPER", 1, b""),
    m.Datagram("x" * 33, 1, b""),
    m.Datagram("s", 1, bytes(MAX_DATAGRAM_DATA + 1)),
    m.Datagram("s", 1, b"", False, 1, 1),
    m.Datagram("s", 1, b"", False, 0, 1025),
    m.Datagram("s", 1, b"", key="k" * 65),
    m.Datagram("s", 1, b"", key="\xe4"),
    m.Receipt(2**64, m.Outcome.DELIVERED),
    m.MessageOutcome(2**64, m.Outcome.DELIVERED),
    m.MessageOutcome(1, m.Outcome.DELIVERED, "", bytes(16_001)),
    m.MessageNumbers(()),
    m.MessageNumbers(tuple(range(129))),
    m.MessageNumbers((2**64,)),
    m.Mark(2**64),
    m.EchoMessage(False, 1, 1, bytes(1025)),
]


def test_what_breaks_a_limit_is_not_sent() -> None:
    """Encoding refuses what the receiver would refuse."""
    for message in TOO_MUCH:
        with pytest.raises(FrameRefused):
            pytest.fail(f"{message!r:.200} became {len(message.encode())} bytes")


def test_numbers_and_texts_of_a_later_version_are_read_leniently() -> None:
    """An unknown close reason is UNSPECIFIED, an unknown outcome REFUSED, unknown HELLO flags nothing."""
    assert m.Close.decode(b"\xc8").reason is m.CloseReason.UNSPECIFIED
    assert m.Receipt.decode(bytes(8) + b"\xc8").outcome is m.Outcome.REFUSED
    assert m.MessageOutcome.decode(bytes(8) + b"\xc8\0").outcome is m.Outcome.REFUSED
    hello = bytearray(ENCODED["Hello"])
    hello[8] |= 0xFE
    assert m.Hello.decode(hello) == SAMPLES["Hello"]


def test_what_a_receiver_says_is_short_and_printable() -> None:
    """Controls are left out at both ends, and a character is not cut in two."""
    said = m.MessageOutcome.decode(m.MessageOutcome(1, m.Outcome.REFUSED, "a\x1b[2J\nb").encode())
    assert said.reason == "a[2Jb"
    assert m.MessageOutcome.decode(bytes(8) + b"\5\3a\x07b").reason == "ab"
    assert (
        m.MessageOutcome.decode(m.MessageOutcome(1, m.Outcome.REFUSED, "ß" * 300).encode()).reason
        == "ß" * 100
    )
    assert (
        m.MessageOutcome.decode(m.MessageOutcome(1, m.Outcome.REFUSED, "x" + "ß" * 300).encode()).reason
        == "x" + "ß" * 99
    )


def test_slugs_are_what_logs_say() -> None:
    """Reasons and outcomes have stable slugs."""
    assert m.CloseReason.DUPLICATE.slug == "duplicate"
    assert m.Outcome.NO_SUCH_SERVICE.slug == "no-such-service"


def test_the_largest_handshake_payload_fits_its_limit() -> None:
    """Certificate and documents at their limits make exactly the largest payload."""
    documents = (bytes(MAX_HANDSHAKE_DOCUMENT_BYTES - 3), b"1", b"2", b"3")
    payload = HandshakePayload(1, bytes(MAX_CERTIFICATE), documents)
    assert len(payload.encode()) == MAX_HANDSHAKE_PAYLOAD
    assert HandshakePayload.decode(payload.encode()) == payload


def test_rekey_has_no_body() -> None:
    """A REKEY with anything in it is refused."""
    m.decode_rekey(b"")
    with pytest.raises(FrameRefused):
        m.decode_rekey(memoryview(b"x"))


def test_a_small_document_travels_inline() -> None:
    """Up to 8 KiB, the first push is the whole document."""
    push = m.DocumentPush.first(4, DOCUMENT)
    assert push.whole and not push.announcement and push.data == DOCUMENT
    assert m.DocumentPush.first(4, bytes(MAX_DOCUMENT_CHUNK)).whole


def test_a_whole_document_with_another_digest_is_refused() -> None:
    """The digest of an inline document is checked on arrival."""
    with pytest.raises(FrameRefused):
        m.DocumentPush.decode(m.DocumentPush(1, bytes(32), 4, 0, b"data").encode())


def test_a_large_document_is_announced_and_pulled() -> None:
    """Above 8 KiB, pieces asked for one by one give the document again."""
    announcement = m.DocumentPush.decode(m.DocumentPush.first(4, LARGE).encode())
    assert announcement.announcement and not announcement.whole
    assembler = m.DocumentAssembler(announcement)
    pieces = 0
    while True:
        request = m.DocumentRequest.decode(assembler.request.encode())
        assert (request.number, request.digest) == (4, sha256(LARGE).digest())
        piece = m.DocumentPush.of(4, LARGE, request.offset, request.digest)
        pieces += 1
        document = assembler.add(m.DocumentPush.decode(piece.encode()))
        if document is not None:
            break
        assert assembler.add(piece) is None, "a repeated piece changes nothing"
    assert document == LARGE
    assert pieces == 3


def test_the_pieces_of_a_command_make_it_whole() -> None:
    """Sent one after the other without being asked for."""
    first, *others = m.DocumentPush.pieces(5, LARGE)
    assembler = m.DocumentAssembler(first)
    assert [assembler.add(piece) for piece in (first, *others)] == [None, None, LARGE]


def test_an_assembler_ignores_pieces_of_another_document() -> None:
    """Only pieces with the announced digest and total count."""
    assembler = m.DocumentAssembler(m.DocumentPush.first(4, LARGE))
    assert assembler.add(m.DocumentPush.of(4, LARGE[::-1])) is None
    assert assembler.add(m.DocumentPush.of(4, DOCUMENT)) is None
    assert assembler.request.offset == 0


def test_a_document_that_is_not_what_was_announced_is_refused() -> None:
    """The whole must have the digest of its announcement."""
    announcement = m.DocumentPush(4, bytes(32), MAX_DOCUMENT_CHUNK + 1, 0, b"")
    assembler = m.DocumentAssembler(announcement)
    assembler.add(m.DocumentPush(4, bytes(32), MAX_DOCUMENT_CHUNK + 1, 0, bytes(MAX_DOCUMENT_CHUNK)))
    with pytest.raises(FrameRefused):
        assembler.add(m.DocumentPush(4, bytes(32), MAX_DOCUMENT_CHUNK + 1, MAX_DOCUMENT_CHUNK, b"x"))


@given(message=STRATEGIES["Datagram"])
def test_the_datagram_template_agrees_with_the_plain_way(message: m.Datagram) -> None:
    """The template writes what Datagram does, and the head of it is where readers look for it."""
    plain = m.Datagram(message.service, message.message, message.data, message.want_ack)
    template = m.DatagramTemplate(message.service, message.want_ack)
    frame = template.frame(message.message, message.data)
    assert frame[3:] == plain.encode()
    assert m.iter_inner(frame) == iter_frames(frame) == [(m.Inner.DATAGRAM, 0, len(frame))]
    assert template.head(len(message.data), message.message) + message.data == frame
    length, kind, flags, number, name = m.DATAGRAM_HEAD.unpack_from(frame)
    assert (length, kind, bool(flags), number) == (len(frame) - 3, 1, message.want_ack, message.message)
    assert frame[m.DATAGRAM_HEAD.size :][:name] == message.service.encode()


def test_an_empty_seal_is_a_sign_of_life() -> None:
    """No inner frame at all is allowed, half a frame is not."""
    assert m.iter_inner(b"") == []
    with pytest.raises(FrameRefused):
        m.iter_inner(b"\0\x05\x01abc")


@pytest.mark.parametrize("again", [False, True])
def test_an_acknowledged_datagram_is_written_alike_both_ways(again):
    """The fast way writes what the slow one does."""
    slow = m.Datagram("log", 7 << 32, b"data", outcome=True, again=again)
    fast = m.DatagramTemplate("log", outcome=True, again=again).frame(7 << 32, b"data")
    assert fast == pack_frame(m.Inner.DATAGRAM, slow.encode())
