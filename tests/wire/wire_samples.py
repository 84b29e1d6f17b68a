# SPDX-License-Identifier: MIT
"""One sample of everything the wire carries, and Hypothesis strategies for the same."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from hypothesis import strategies as st

from gmesh.stream_errors import StreamCode
from gmesh.wire import messages as m
from gmesh.wire import stream_messages as s
from gmesh.wire.frames import iter_frames, pack_frame
from gmesh.wire.handshake import HandshakePayload, decode_genesis_version, encode_genesis_version
from gmesh.wire.limits import MAX_DOCUMENT, MAX_DOCUMENT_CHUNK, MAX_NUMBER
from gmesh.wire.paths import PathHeader, pack_path_frame, peek_path, read_path

A, B, C, D = (bytes((letter,)) * 8 for letter in b"ABCD")
DOCUMENT = b'{"signed":{},"signatures":[]}'
LARGE = bytes(range(256)) * 80
PATH = PathHeader((A, B, C), receiver_index=0x01020304, counter=5)


def read_path_frame(data: bytes) -> tuple[PathHeader, bytes]:
    """Header and payload of a data frame."""
    header, begin = read_path(data, 0, len(data))
    return header, bytes(data[begin:])


def read_frames(data: bytes) -> tuple[tuple[int, bytes], ...]:
    """Kinds and bodies of the frames of a record."""
    return tuple((kind, bytes(data[start + 3 : end])) for kind, start, end in iter_frames(data))


def check_peek(data: bytes) -> tuple[int, int, int]:
    """What a relay reads."""
    return peek_path(data, 0, len(data))


SAMPLES: dict[str, Any] = {
    "HandshakePayload": HandshakePayload(2, b"certificate", (b"genesis-1", b"genesis-2")),
    "Hello": m.Hello(
        boot_id=b"bootboot",
        initiator=True,
        wall_ms=1_800_000_000_123,
        serial=7,
        status=8,
        crl=9,
        policy=10,
        genesis=2,
        digest=bytes(2048),
        software="gmesh/1.0",
        observed="192.0.2.1:4000",
    ),
    "Ping": m.Ping(1, 2),
    "Pong": m.Pong(3, 2**64 - 1),
    "Close": m.Close(m.CloseReason.REVOKED),
    "Lsa": m.Lsa((b"record-1", b"record-2" * 20)),
    "Ihave": m.Ihave((m.RecordNumber(A, 0, 1), m.RecordNumber(B, 63, 2**64 - 1))),
    "SyncDigest": m.SyncDigest(((0, b"digest-0"), (255, b"digest-f"))),
    "SyncList": m.SyncList((m.RecordSummary(A, 1, 2, b"hash"),)),
    "SyncWant": m.SyncWant((m.RecordKey(A, 1), m.RecordKey(C, 0))),
    "CertRequest": m.CertRequest((m.CertificateKey(A, 1), m.CertificateKey(B, MAX_NUMBER))),
    "CertAnswer": m.CertAnswer((b"certificate-1", b"certificate-2")),
    "DocumentPush": m.DocumentPush.of(3, DOCUMENT),
    "DocumentRequest": m.DocumentRequest(3, sha256(LARGE).digest(), 2 * MAX_DOCUMENT_CHUNK),
    "CommandRequest": m.CommandRequest(17),
    "Unreach": m.Unreach(D, C, b"record" * 30),
    "Dropped": m.Dropped(D, 12),
    "PathRequest": m.PathRequest(1, D),
    "PathReply": m.PathReply(1, (A, B, D), (b"record-a", b"record-b"), True),
    "E2eInit": m.E2eInit(b"certificate", 1_800_000_000 << 20, 0xDEADBEEF, 9),
    "E2eResponse": m.E2eResponse(0xCAFE, 1_800_000_000 << 20, 9, 7),
    "Datagram": m.Datagram("metrics", 5, b"data", True, 1, 3),
    "Receipt": m.Receipt(5, m.Outcome.NO_SUCH_SERVICE),
    "MessageOutcome": m.MessageOutcome(5, m.Outcome.REFUSED, "zu heiß"),
    "MessageNumbers": m.MessageNumbers((5,)),
    "Mark": m.Mark(10),
    "EchoMessage": m.EchoMessage(True, 1, 2, b"padding"),
    "Segment": s.Segment(2**40 + 1),
    "Seen": s.Seen(250, ((90, 100), (70, 80), (1, 60))),
    "StreamOpen": s.StreamOpen(2**33 + 3, 262_144, "web"),
    "StreamAccept": s.StreamAccept(2**33 + 3, 65_536),
    "StreamData": s.StreamData(2**33 + 3, 2**40, b"data"),
    "StreamFin": s.StreamFin(2**33 + 3, 2**40 + 4),
    "StreamCredit": s.StreamCredit(2**33 + 3, 2**41),
    "StreamStop": s.StreamStop(2**33 + 3, StreamCode.DONE),
    "StreamReset": s.StreamReset(2**33 + 3, StreamCode.DENIED, "rule 3 denies it"),
    "Goaway": s.Goaway(StreamCode.STOPPED),
}
"""By name of class; each has C{encode} and the class C{decode}."""

DECODERS: dict[str, Callable[[bytes], Any]] = {name: type(sample).decode for name, sample in SAMPLES.items()}
DECODERS |= {
    "genesis version": decode_genesis_version,
    "frames": read_frames,
    "path frame": read_path_frame,
    "peek": check_peek,
}

ENCODED: dict[str, bytes] = {name: sample.encode() for name, sample in SAMPLES.items()}
ENCODED |= {
    "genesis version": encode_genesis_version(7),
    "frames": pack_frame(2, ENCODED["Ping"]) + pack_frame(16, ENCODED["Lsa"]) + pack_frame(4),
    "path frame": pack_path_frame(66, PATH, b"sealed payload, 16+"),
    "peek": pack_path_frame(64, PATH, b"handshake message"),
}

handles = st.binary(min_size=8, max_size=8)
u8, u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
numbers = st.integers(0, MAX_NUMBER)
blobs = st.binary(min_size=1, max_size=200)
texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=64)
services = st.text("abcdefghijklmnopqrstuvwxyz0123456789_.-", min_size=1, max_size=32)
fragments = st.integers(0, 63)
sessions = st.integers(1, 2**32 - 1)
parameters = st.one_of(
    st.just(m.EndParameters()),
    st.builds(m.EndParameters, st.binary(min_size=8, max_size=8), st.integers(0, 2**32 - 1)),
)


def _tuples(
    strategy: st.SearchStrategy[Any], low: int = 0, high: int = 6
) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, min_size=low, max_size=high).map(tuple)


@st.composite
def documents(draw: st.DrawFn) -> m.DocumentPush:
    """Whole documents, pieces and announcements."""
    number = draw(numbers)
    if draw(st.booleans()):
        return m.DocumentPush.of(number, draw(st.binary(min_size=1, max_size=300)))
    total = draw(st.integers(MAX_DOCUMENT_CHUNK + 1, MAX_DOCUMENT))
    digest = draw(st.binary(min_size=32, max_size=32))
    if draw(st.booleans()):
        return m.DocumentPush(number, digest, total, 0, b"")
    offset = draw(st.integers(0, (total - 1) // MAX_DOCUMENT_CHUNK)) * MAX_DOCUMENT_CHUNK
    return m.DocumentPush(number, digest, total, offset, bytes(min(MAX_DOCUMENT_CHUNK, total - offset)))


@st.composite
def datagrams(draw: st.DrawFn) -> m.Datagram:
    """Whole messages and fragments."""
    count = draw(st.one_of(st.just(1), st.integers(2, 1024)))
    index = draw(st.integers(0, count - 1))
    return m.Datagram(
        draw(services),
        draw(u64),
        draw(st.binary(max_size=300)),
        draw(st.booleans()),
        index,
        count,
        draw(st.booleans()),
        draw(st.one_of(st.just(""), message_keys)),
        draw(st.booleans()),
    )


message_keys = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=64)
said = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=50)


@st.composite
def seens(draw: st.DrawFn) -> s.Seen:
    """Runs, the newest first, none of which touch."""
    numbers = draw(st.lists(st.integers(0, 2**30), min_size=2, max_size=64, unique=True).map(sorted))
    start = draw(st.integers(0, 2**63))
    ends = numbers[len(numbers) % 2 :]
    runs = [(start + 2 * first, start + 2 * last) for first, last in zip(ends[::2], ends[1::2], strict=True)]
    return s.Seen(draw(u16), tuple(reversed(runs)))


@st.composite
def path_headers(draw: st.DrawFn) -> PathHeader:
    """Valid headers."""
    path = tuple(draw(st.lists(handles, min_size=2, max_size=65, unique=True)))
    hop = draw(st.integers(1, len(path) - 1))
    return PathHeader(path, draw(u32), draw(u64), hop, draw(u8), draw(st.integers(0, 3)))


STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "HandshakePayload": st.builds(HandshakePayload, u32, blobs, _tuples(blobs, high=4)),
    "Hello": st.builds(
        m.Hello,
        boot_id=handles,
        initiator=st.booleans(),
        wall_ms=numbers,
        serial=numbers,
        status=numbers,
        crl=numbers,
        policy=numbers,
        genesis=u32,
        digest=handles.map(lambda part: part * 256),
        software=texts,
        observed=texts,
    ),
    "Ping": st.builds(m.Ping, u64, u64),
    "Pong": st.builds(m.Pong, u64, u64),
    "Close": st.builds(m.Close, st.sampled_from(m.CloseReason)),
    "Lsa": st.builds(m.Lsa, _tuples(blobs, 1)),
    "Ihave": st.builds(m.Ihave, _tuples(st.builds(m.RecordNumber, handles, fragments, u64))),
    "SyncDigest": st.builds(
        m.SyncDigest,
        st.dictionaries(u8, handles, min_size=1, max_size=9).map(
            lambda chosen: tuple(sorted(chosen.items()))
        ),
    ),
    "SyncList": st.builds(
        m.SyncList,
        _tuples(st.builds(m.RecordSummary, handles, fragments, u64, st.binary(min_size=4, max_size=4))),
    ),
    "SyncWant": st.builds(m.SyncWant, _tuples(st.builds(m.RecordKey, handles, fragments))),
    "CertRequest": st.builds(m.CertRequest, _tuples(st.builds(m.CertificateKey, handles, numbers), 1)),
    "CertAnswer": st.builds(m.CertAnswer, _tuples(blobs, 1)),
    "DocumentPush": documents(),
    "DocumentRequest": st.builds(
        m.DocumentRequest,
        numbers,
        st.binary(min_size=32, max_size=32),
        st.integers(0, MAX_DOCUMENT // MAX_DOCUMENT_CHUNK - 1).map(lambda piece: piece * MAX_DOCUMENT_CHUNK),
    ),
    "CommandRequest": st.builds(m.CommandRequest, numbers),
    "Unreach": st.builds(m.Unreach, handles, handles, blobs),
    "Dropped": st.builds(m.Dropped, handles, u32),
    "PathRequest": st.builds(m.PathRequest, u32, handles, st.from_regex(r"[a-z0-9-]{0,63}", fullmatch=True)),
    "PathReply": st.builds(
        m.PathReply,
        u32,
        st.one_of(st.just(()), _tuples(handles, 2, 65)),
        _tuples(blobs),
        st.booleans(),
    ),
    "E2eInit": st.builds(m.E2eInit, blobs, u64, sessions, numbers, parameters),
    "E2eResponse": st.builds(m.E2eResponse, sessions, u64, numbers, numbers, parameters),
    "Datagram": datagrams(),
    "Receipt": st.builds(m.Receipt, u64, st.sampled_from(m.Outcome)),
    "MessageOutcome": st.builds(m.MessageOutcome, u64, st.sampled_from(m.Outcome), said, blobs),
    "MessageNumbers": st.builds(m.MessageNumbers, _tuples(u64, low=1, high=128)),
    "Mark": u64.map(m.Mark),
    "EchoMessage": st.builds(m.EchoMessage, st.booleans(), u64, u64, blobs),
    "Segment": u64.map(s.Segment),
    "Seen": seens(),
    "StreamOpen": st.builds(s.StreamOpen, u64, u64, services),
    "StreamAccept": st.builds(s.StreamAccept, u64, u64),
    "StreamData": st.builds(s.StreamData, u64, u64, blobs),
    "StreamFin": st.builds(s.StreamFin, u64, u64),
    "StreamCredit": st.builds(s.StreamCredit, u64, u64),
    "StreamStop": st.builds(s.StreamStop, u64, st.sampled_from(StreamCode)),
    "StreamReset": st.builds(s.StreamReset, u64, st.sampled_from(StreamCode), texts),
    "Goaway": st.sampled_from(StreamCode).map(s.Goaway),
}
"""By name of class, as in L{SAMPLES}."""
