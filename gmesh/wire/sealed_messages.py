# SPDX-License-Identifier: MIT
"""
What only the two ends read: the payloads of the IK handshake and the inner frames of E2E_DATA.

The plaintext of an E2E_DATA is one or more inner frames in the form of L{gmesh.wire.frames}, so
that small messages to one destination may share a seal. None at all is a bare sign of life.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from gmesh.wire.codec import Buffer, Reader, check_bytes, check_range, encode_text, pack_blob16, refused
from gmesh.wire.frames import iter_frames
from gmesh.wire.limits import (
    MAX_CERTIFICATE,
    MAX_DATA_PLAINTEXT,
    MAX_ECHO,
    MAX_EXTENSION,
    MAX_FRAGMENTS,
    MAX_NUMBER,
    MAX_SERVICE,
)

__all__ = [
    "Ack",
    "Datagram",
    "E2eInit",
    "E2eResponse",
    "Echo",
    "Inner",
    "Outcome",
    "Receipt",
    "check_service",
    "iter_inner",
]

_INIT_TAIL = struct.Struct(">QIQ")
_RESPONSE = struct.Struct(">IQQQ")
_FRAGMENT = struct.Struct(">HH")
_RECEIPT = struct.Struct(">QB")
_RANGE = struct.Struct(">QQ")
_ECHO = struct.Struct(">BQQ")
_U64 = struct.Struct(">Q")
_MAX_U64 = 2**64 - 1
_MAX_U32 = 2**32 - 1
_FLAG_WANT_ACK = 1
_FLAG_FRAGMENT = 2
_SERVICE_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.-")

MAX_ACK_RANGES = 4


class Inner(IntEnum):
    """Kinds of inner frames; the rules for unknown ones are those of L{gmesh.wire.frames.Kind}."""

    DATAGRAM = 1
    RECEIPT = 2
    ACK = 3


def iter_inner(plaintext: Buffer) -> list[tuple[int, int, int]]:
    """As L{iter_frames}, but nothing at all is allowed."""
    return iter_frames(plaintext) if len(plaintext) else []


def check_service(name: str) -> str:
    """
    C{name} if it is a service name: 1 to 32 of C{a-z 0-9 _ . -}.

    @raise FrameRefused: otherwise.
    """
    if not 0 < len(name) <= MAX_SERVICE or not _SERVICE_CHARACTERS.issuperset(name):
        raise refused("datagram", "has a service name that is not 1 to 32 of a-z, 0-9, _, . and -")
    return name


@dataclass(frozen=True, slots=True)
class E2eInit:
    """
    The payload of IK message 1. It can be replayed: nothing in it is secret or acted upon.

    @ivar certificate: the initiator's, in file form.
    @ivar handshake: rises with every handshake to anybody; equals the counter of the path header.
    @ivar session: the index the responder puts into frames to the initiator; not 0.
    @ivar crl: number of the newest CRL held, 0 for none.
    """

    certificate: bytes
    handshake: int
    session: int
    crl: int = 0

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        return pack_blob16("E2E_INIT", self.certificate, MAX_CERTIFICATE) + _INIT_TAIL.pack(
            check_range("E2E_INIT", self.handshake, _MAX_U64),
            _check_session("E2E_INIT", self.session),
            check_range("E2E_INIT", self.crl, MAX_NUMBER),
        )

    @classmethod
    def decode(cls, payload: Buffer) -> E2eInit:
        """Bytes of a later version at the end are ignored. @raise FrameRefused: if C{payload} is not one."""
        reader = Reader(payload, "E2E_INIT")
        certificate = reader.blob16(MAX_CERTIFICATE)
        handshake = reader.u64()
        session = _check_session("E2E_INIT", reader.u32())
        crl = reader.number(MAX_NUMBER)
        reader.skip_extension(MAX_EXTENSION)
        return cls(certificate, handshake, session, crl)


@dataclass(frozen=True, slots=True)
class E2eResponse:
    """
    The payload of IK message 2.

    @ivar session: the index the initiator puts into frames to the responder; not 0.
    @ivar handshake: of the message 1 this answers.
    @ivar crl: number of the newest CRL held, 0 for none.
    @ivar serial: of the certificate the responder uses now.
    """

    session: int
    handshake: int
    crl: int = 0
    serial: int = 0

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        return _RESPONSE.pack(
            _check_session("E2E_RESP", self.session),
            check_range("E2E_RESP", self.handshake, _MAX_U64),
            check_range("E2E_RESP", self.crl, MAX_NUMBER),
            check_range("E2E_RESP", self.serial, MAX_NUMBER),
        )

    @classmethod
    def decode(cls, payload: Buffer) -> E2eResponse:
        """Bytes of a later version at the end are ignored. @raise FrameRefused: if C{payload} is not one."""
        reader = Reader(payload, "E2E_RESP")
        session = _check_session("E2E_RESP", reader.u32())
        response = cls(session, reader.u64(), reader.number(MAX_NUMBER), reader.number(MAX_NUMBER))
        reader.skip_extension(MAX_EXTENSION)
        return response


@dataclass(frozen=True, slots=True)
class Datagram:
    """
    A message to a service, or a fragment of one.

    @ivar service: its name.
    @ivar message: the sender's number of the message, alike in all its fragments and retries.
    @ivar data: the message or this part of it.
    @ivar want_ack: True if a L{Receipt} is wanted.
    @ivar index: position of this fragment, from 0.
    @ivar count: number of fragments; 1 when the message is whole.
    """

    service: str
    message: int
    data: bytes
    want_ack: bool = False
    index: int = 0
    count: int = 1

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        check_service(self.service)
        check_bytes("datagram", self.data, 0, MAX_DATA_PLAINTEXT)
        _check_fragment(self.index, self.count)
        flags = (_FLAG_WANT_ACK if self.want_ack else 0) | (_FLAG_FRAGMENT if self.count > 1 else 0)
        return b"".join(
            (
                bytes((flags,)),
                _U64.pack(check_range("datagram", self.message, _MAX_U64)),
                encode_text("datagram", self.service, MAX_SERVICE),
                _FRAGMENT.pack(self.index, self.count) if self.count > 1 else b"",
                self.data,
            )
        )

    @classmethod
    def decode(cls, body: Buffer) -> Datagram:
        """@raise FrameRefused: if C{body} is not one."""
        reader = Reader(body, "datagram")
        flags = reader.u8()
        if flags > _FLAG_WANT_ACK | _FLAG_FRAGMENT:
            raise reader.refused(f"has the unknown flags {flags}")
        message = reader.u64()
        service = check_service(reader.text8(MAX_SERVICE))
        index, count = 0, 1
        if flags & _FLAG_FRAGMENT:
            index, count = reader.u16(), reader.u16()
            if count < 2:
                raise reader.refused("is the only fragment of a message")
            _check_fragment(index, count)
        data = reader.rest(MAX_DATA_PLAINTEXT)
        return cls(service, message, data, bool(flags & _FLAG_WANT_ACK), index, count)


class Outcome(IntEnum):
    """What became of a message; a number of a later version reads as REFUSED."""

    DELIVERED = 0
    NO_SUCH_SERVICE = 1
    DENIED = 2
    TOO_LARGE = 3
    BUSY = 4
    REFUSED = 5

    @property
    def slug(self) -> str:
        """As in errors: C{no-such-service}."""
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True)
class Receipt:
    """
    What became of the message: DELIVERED means handed to a receiver.

    @ivar message: number of the message.
    """

    message: int
    outcome: Outcome

    def encode(self) -> bytes:
        """@raise FrameRefused: if the number is too large."""
        return _RECEIPT.pack(check_range("receipt", self.message, _MAX_U64), self.outcome)

    @classmethod
    def decode(cls, body: Buffer) -> Receipt:
        """@raise FrameRefused: if C{body} is not one."""
        reader = Reader(body, "receipt")
        message, number = reader.u64(), reader.u8()
        reader.finish()
        try:
            return cls(message, Outcome(number))
        except ValueError:
            return cls(message, Outcome.REFUSED)


@dataclass(frozen=True, slots=True)
class Ack:
    """
    Frames of the session that arrived, by counter.

    @ivar cumulative: all counters below this one have arrived.
    @ivar ranges: up to 4 further (first, last) runs, ascending, apart, above C{cumulative}.
    """

    cumulative: int
    ranges: tuple[tuple[int, int], ...] = ()

    def encode(self) -> bytes:
        """@raise FrameRefused: if the ranges are not in order."""
        self._check()
        return b"".join((_U64.pack(self.cumulative), *(_RANGE.pack(*pair) for pair in self.ranges)))

    @classmethod
    def decode(cls, body: Buffer) -> Ack:
        """@raise FrameRefused: if C{body} is not one."""
        reader = Reader(body, "acknowledgement")
        cumulative = reader.u64()
        if reader.left > MAX_ACK_RANGES * _RANGE.size or reader.left % _RANGE.size:
            raise reader.refused("does not end with a range")
        ack = cls(cumulative, tuple((reader.u64(), reader.u64()) for _ in range(reader.left // _RANGE.size)))
        ack._check()
        return ack

    def _check(self) -> None:
        above = check_range("acknowledgement", self.cumulative, _MAX_U64)
        if len(self.ranges) > MAX_ACK_RANGES:
            raise refused("acknowledgement", f"has {len(self.ranges)} ranges")
        for first, last in self.ranges:
            if not above < first <= last <= _MAX_U64:
                raise refused("acknowledgement", "has ranges that are out of order or touch")
            above = last + 1


@dataclass(frozen=True, slots=True)
class Echo:
    """
    The data of a datagram to the reserved service C{_echo}: ping and trace.

    @ivar reply: True in the answer, which repeats everything else.
    @ivar nonce: chosen by the asker.
    @ivar stamp: the asker's clock, in its own units.
    """

    reply: bool
    nonce: int
    stamp: int
    padding: bytes = b""

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        check_range("echo", self.nonce, _MAX_U64)
        check_range("echo", self.stamp, _MAX_U64)
        check_bytes("echo", self.padding, 0, MAX_ECHO)
        return _ECHO.pack(2 if self.reply else 1, self.nonce, self.stamp) + self.padding

    @classmethod
    def decode(cls, data: Buffer) -> Echo:
        """@raise FrameRefused: if C{data} is not one."""
        reader = Reader(data, "echo")
        kind = reader.u8()
        if kind not in (1, 2):
            raise reader.refused(f"is neither request nor reply but {kind}")
        return cls(kind == 2, reader.u64(), reader.u64(), reader.rest(MAX_ECHO))


def _check_session(what: str, session: int) -> int:
    if not 0 < session <= _MAX_U32:
        raise refused(what, f"cannot carry the session index {session}")
    return session


def _check_fragment(index: int, count: int) -> None:
    if not 0 <= index < count <= MAX_FRAGMENTS:
        raise refused(
            "datagram", f"cannot be fragment {index} of {count}, at most {MAX_FRAGMENTS} are allowed"
        )
