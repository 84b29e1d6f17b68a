# SPDX-License-Identifier: MIT
"""
Inner frames that carry byte streams, kinds 16 to 26.

A sealed frame with something to acknowledge begins with SEGMENT: all stream frames behind it are lost and
acknowledged with it.  SEEN is never itself acknowledged, and may stand in any sealed frame.
Tests: C{tests/wire/test_messages.py}.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from gmesh.stream_errors import StreamCode
from gmesh.wire.codec import Buffer, FieldReader, check_bytes, check_range, encode_text, refused
from gmesh.wire.datagram_messages import check_service
from gmesh.wire.limits import (
    MAX_DATA_PLAINTEXT,
    MAX_SEEN_RUNS,
    MAX_SERVICE,
    MAX_STREAM_DETAIL,
    MAX_STREAM_EXTENSION,
)
from gmesh.wire.session_messages import Inner

__all__ = [
    "BULK_HEAD",
    "DATA_HEAD",
    "MAX_STREAM_DATA",
    "PROBE",
    "SEGMENT_HEAD",
    "Goaway",
    "Seen",
    "Segment",
    "StreamAccept",
    "StreamCredit",
    "StreamData",
    "StreamFin",
    "StreamOpen",
    "StreamReset",
    "StreamStop",
    "printable",
]

SEGMENT_HEAD = struct.Struct(">HBQ")
"""A whole SEGMENT frame: length, kind, number."""

DATA_HEAD = struct.Struct(">HBQQ")
"""All of a DATA frame before its bytes: length, kind, stream, offset."""

BULK_HEAD = struct.Struct(">HBQHBQQ")
"""Both, as a segment with one piece of one stream begins."""

PROBE = bytes((0, 0, Inner.PROBE))
"""A whole PROBE frame: something to acknowledge."""

MAX_STREAM_DATA = MAX_DATA_PLAINTEXT - BULK_HEAD.size
"""Bytes of a stream in one frame, at most."""

_SEEN = struct.Struct(">QHBI")
_RUN = struct.Struct(">II")
_TWO = struct.Struct(">QQ")
_CODED = struct.Struct(">QH")
_U16 = struct.Struct(">H")
_U64 = struct.Struct(">Q")
_MAX_U16 = 2**16 - 1
_MAX_U32 = 2**32 - 1
_MAX_U64 = 2**64 - 1


def printable(text: str) -> str:
    """C{text} as a RESET may carry it: cut, and C{?} for what is not printable ASCII."""
    return "".join(
        each if each.isascii() and each.isprintable() else "?" for each in text[:MAX_STREAM_DETAIL]
    )


@dataclass(frozen=True, slots=True)
class Segment:
    """The body of SEGMENT: the number by which what follows in its sealed frame is acknowledged."""

    number: int

    def encode(self) -> bytes:
        """@raise FrameRefused: if it is too large."""
        return _U64.pack(check_range("SEGMENT", self.number, _MAX_U64))

    @classmethod
    def decode(cls, body: Buffer) -> Segment:
        """@raise FrameRefused: if C{body} is not one."""
        reader = FieldReader(body, "SEGMENT")
        segment = cls(reader.u64())
        reader.finish()
        return segment


@dataclass(frozen=True, slots=True)
class Seen:
    """
    The body of SEEN: which segments have come.

    @ivar delay: how long before this the largest one came, in tenths of a millisecond.
    @ivar runs: first and last number of each run, the newest run first; runs do not touch.
    """

    delay: int
    runs: tuple[tuple[int, int], ...]

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        if not 0 < len(self.runs) <= MAX_SEEN_RUNS:
            raise refused("SEEN", f"cannot carry {len(self.runs)} runs")
        first, largest = self.runs[0]
        parts = [
            _SEEN.pack(
                check_range("SEEN", largest, _MAX_U64),
                check_range("SEEN", self.delay, _MAX_U16),
                len(self.runs),
                _positive(largest - first + 1),
            )
        ]
        for below, last in self.runs[1:]:
            parts.append(_RUN.pack(_positive(first - last - 1), _positive(last - below + 1)))
            first = below
        return b"".join(parts)

    @classmethod
    def decode(cls, body: Buffer) -> Seen:
        """@raise FrameRefused: if C{body} is not one."""
        reader = FieldReader(body, "SEEN")
        last, delay, count = reader.u64(), reader.u16(), reader.u8()
        if not 0 < count <= MAX_SEEN_RUNS:
            raise reader.refused(f"has {count} runs, allowed are 1 to {MAX_SEEN_RUNS}")
        runs = []
        for index in range(count):
            if index:
                last -= _positive(reader.u32()) + 1
            first = last - _positive(reader.u32()) + 1
            if first < 0:
                raise reader.refused("has runs below 0")
            runs.append((first, last))
            last = first
        reader.finish()
        return cls(delay, tuple(runs))


def _positive(number: int) -> int:
    """The length of a run or a gap."""
    if not 0 < number <= _MAX_U32:
        raise refused("SEEN", f"has a run or a gap of {number}")
    return number


@dataclass(frozen=True, slots=True)
class StreamOpen:
    """
    The body of OPEN. A later version may append to it.

    @ivar stream: a counter of the opener times 2, and 1 if its handle is the larger.
    @ivar credit: how many bytes the other end may send.
    """

    stream: int
    credit: int
    service: str

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        return _two("OPEN", self.stream, self.credit) + encode_text(
            "OPEN", check_service(self.service), MAX_SERVICE
        )

    @classmethod
    def decode(cls, body: Buffer) -> StreamOpen:
        """@raise FrameRefused: if C{body} is not one."""
        reader = FieldReader(body, "OPEN")
        stream, credit = reader.u64(), reader.u64()
        service = check_service(reader.text8(MAX_SERVICE))
        reader.skip_extension(MAX_STREAM_EXTENSION)
        return cls(stream, credit, service)


@dataclass(frozen=True, slots=True)
class StreamAccept:
    """
    The body of ACCEPT. A later version may append to it.

    @ivar credit: how many bytes the opener may send.
    """

    stream: int
    credit: int

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        return _two("ACCEPT", self.stream, self.credit)

    @classmethod
    def decode(cls, body: Buffer) -> StreamAccept:
        """@raise FrameRefused: if C{body} is not one."""
        reader = FieldReader(body, "ACCEPT")
        accept = cls(reader.u64(), reader.u64())
        reader.skip_extension(MAX_STREAM_EXTENSION)
        return accept


@dataclass(frozen=True, slots=True)
class StreamData:
    """
    The body of DATA: one byte or more, where they belong.

    @ivar offset: how many bytes of the stream are before them.
    """

    stream: int
    offset: int
    data: bytes

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        check_bytes("DATA", self.data, 1, MAX_STREAM_DATA)
        return _two("DATA", self.stream, self.offset) + self.data

    @classmethod
    def decode(cls, body: Buffer) -> StreamData:
        """@raise FrameRefused: if C{body} is not one."""
        reader = FieldReader(body, "DATA")
        stream, offset = reader.u64(), reader.u64()
        if not reader.left:
            raise reader.refused("has no data")
        return cls(stream, offset, reader.rest(MAX_STREAM_DATA))


@dataclass(frozen=True, slots=True)
class StreamFin:
    """
    The body of FIN: its sender writes no more.

    @ivar size: of all that it wrote.
    """

    stream: int
    size: int

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        return _two("FIN", self.stream, self.size)

    @classmethod
    def decode(cls, body: Buffer) -> StreamFin:
        """@raise FrameRefused: if C{body} is not one."""
        return cls(*_read_two("FIN", body))


@dataclass(frozen=True, slots=True)
class StreamCredit:
    """
    The body of CREDIT: so far the other end may write.

    @ivar limit: an offset; one that is lower than an earlier one says nothing.
    """

    stream: int
    limit: int

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        return _two("CREDIT", self.stream, self.limit)

    @classmethod
    def decode(cls, body: Buffer) -> StreamCredit:
        """@raise FrameRefused: if C{body} is not one."""
        return cls(*_read_two("CREDIT", body))


@dataclass(frozen=True, slots=True)
class StreamStop:
    """
    The body of STOP: its sender reads no more.

    @ivar code: C{DONE} if it has read all that came.
    """

    stream: int
    code: StreamCode

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        return _CODED.pack(check_range("STOP", self.stream, _MAX_U64), self.code)

    @classmethod
    def decode(cls, body: Buffer) -> StreamStop:
        """@raise FrameRefused: if C{body} is not one."""
        reader = FieldReader(body, "STOP")
        stop = cls(reader.u64(), StreamCode.read(reader.u16()))
        reader.finish()
        return stop


@dataclass(frozen=True, slots=True)
class StreamReset:
    """
    The body of RESET: both halves end at once, or never begin.

    @ivar detail: a line for people, L{printable}.
    """

    stream: int
    code: StreamCode
    detail: str = ""

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        return _CODED.pack(check_range("RESET", self.stream, _MAX_U64), self.code) + encode_text(
            "RESET", self.detail, MAX_STREAM_DETAIL
        )

    @classmethod
    def decode(cls, body: Buffer) -> StreamReset:
        """@raise FrameRefused: if C{body} is not one."""
        reader = FieldReader(body, "RESET")
        reset = cls(reader.u64(), StreamCode.read(reader.u16()), reader.text8(MAX_STREAM_DETAIL))
        reader.finish()
        return reset


@dataclass(frozen=True, slots=True)
class Goaway:
    """The body of GOAWAY: open no more streams; those that are open go on."""

    code: StreamCode

    def encode(self) -> bytes:
        """Two bytes."""
        return _U16.pack(self.code)

    @classmethod
    def decode(cls, body: Buffer) -> Goaway:
        """@raise FrameRefused: if C{body} is not one."""
        reader = FieldReader(body, "GOAWAY")
        goaway = cls(StreamCode.read(reader.u16()))
        reader.finish()
        return goaway


def _two(what: str, stream: int, number: int) -> bytes:
    return _TWO.pack(check_range(what, stream, _MAX_U64), check_range(what, number, _MAX_U64))


def _read_two(what: str, body: Buffer) -> tuple[int, int]:
    reader = FieldReader(body, what)
    two = reader.u64(), reader.u64()
    reader.finish()
    return two
