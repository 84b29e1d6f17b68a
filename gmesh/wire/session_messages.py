# SPDX-License-Identifier: MIT
"""
What two ends say to each other: the payloads of the IK handshake, inner frames, acknowledgements.

The plaintext of an E2E_DATA is one or more inner frames in the form of L{gmesh.wire.frames}, so
that small messages to one destination may share a seal. None at all is a bare sign of life.
Tests: C{tests/wire/test_messages.py}.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import NamedTuple

from gmesh.wire.codec import Buffer, FieldReader, check_bytes, check_range, pack_blob16, refused
from gmesh.wire.frames import iter_frames
from gmesh.wire.limits import MAX_CERTIFICATE, MAX_EXTENSION, MAX_NUMBER
from gmesh.wire.link_messages import BOOT_ID

__all__ = [
    "FIRST_STREAM_KIND",
    "LAST_STREAM_KIND",
    "SEEN_KIND",
    "E2eInit",
    "E2eResponse",
    "EndParameters",
    "Feature",
    "Inner",
    "Mark",
    "iter_inner",
]

FIRST_STREAM_KIND, SEEN_KIND, LAST_STREAM_KIND = 16, 17, 26
"""Kinds of the inner frames of byte streams; among others than its own kind only SEEN may stand."""

_INIT_TAIL = struct.Struct(">QIQ")
_RESPONSE = struct.Struct(">IQQQ")
_U64 = struct.Struct(">Q")
_EXTENSION = struct.Struct(">BH")
_PARAMETERS = 1
_FEATURES = struct.Struct(">I")
_MAX_U64 = 2**64 - 1
_MAX_U32 = 2**32 - 1


class Inner(IntEnum):
    """
    Kinds of inner frames; an unknown one is ignored.

    The body of CLOSE is that of L{gmesh.wire.link_messages.Close}. Kinds 16 to 31 are those of streams
    (L{gmesh.wire.stream_messages}).
    """

    DATAGRAM = 1
    RECEIPT = 2
    ACK = 3
    CLOSE = 4
    ASK = 5
    TAKEN = 6
    OUTCOME = 7
    SETTLED = 8
    WAITING = 9
    DELIVERED = 10
    CANCELLED = 11
    SEGMENT = 16
    SEEN = 17
    OPEN = 18
    ACCEPT = 19
    DATA = 20
    FIN = 21
    CREDIT = 22
    STOP = 23
    RESET = 24
    GOAWAY = 25
    PROBE = 26


class Feature(IntFlag):
    """What an end can do beside messages, as bits; those that are not named here are of later versions."""

    STREAMS = 1
    OUTCOMES = 2
    """It tells what becomes of messages beyond their receipt, and knows their keys."""


class EndParameters(NamedTuple):
    """
    What an end says of itself in a handshake; an older version says nothing.

    It may have been replayed in message 1: it counts once the session is heard.

    @ivar boot: another 8 bytes each time the end starts; empty if it does not say.
    @ivar features: bits, of L{Feature} those that are known.
    """

    boot: bytes = b""
    features: int = 0

    def encode(self) -> bytes:
        """The extension of a payload; nothing without a boot id. @raise FrameRefused: if it cannot be."""
        if not self.boot:
            return b""
        boot = bytes(check_bytes("handshake", self.boot, BOOT_ID, BOOT_ID))
        features = _FEATURES.pack(check_range("handshake", self.features, _MAX_U32))
        return _EXTENSION.pack(_PARAMETERS, len(boot) + len(features)) + boot + features

    @classmethod
    def take(cls, reader: FieldReader) -> EndParameters:
        """
        Read the extensions at the end of a payload: u8 type, u16 length each, unknown ones skipped.

        @raise FrameRefused: if there are more than L{MAX_EXTENSION} bytes.
        """
        rest = reader.rest(MAX_EXTENSION)
        at, end = 0, len(rest)
        while end - at >= _EXTENSION.size:
            kind, size = _EXTENSION.unpack_from(rest, at)
            at += _EXTENSION.size
            if kind == _PARAMETERS and size >= BOOT_ID + _FEATURES.size and at + size <= end:
                return cls(rest[at : at + BOOT_ID], _FEATURES.unpack_from(rest, at + BOOT_ID)[0])
            at += size
        return cls()


_SILENT = EndParameters()


def iter_inner(plaintext: Buffer) -> list[tuple[int, int, int]]:
    """As L{iter_frames}, but nothing at all is allowed."""
    return iter_frames(plaintext) if len(plaintext) else []


@dataclass(frozen=True, slots=True)
class E2eInit:
    """
    The payload of IK message 1. It can be replayed: nothing in it is secret or acted upon.

    @ivar certificate: the initiator's, in file form.
    @ivar handshake: rises with every handshake to anybody; equals the counter of the path header.
    @ivar session: the index the responder puts into frames to the initiator; not 0.
    @ivar crl: number of the newest CRL held, 0 for none.
    @ivar parameters: what the initiator says of itself.
    """

    certificate: bytes
    handshake: int
    session: int
    crl: int = 0
    parameters: EndParameters = _SILENT

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        tail = _INIT_TAIL.pack(
            check_range("E2E_INIT", self.handshake, _MAX_U64),
            _check_session("E2E_INIT", self.session),
            check_range("E2E_INIT", self.crl, MAX_NUMBER),
        )
        return b"".join(
            (pack_blob16("E2E_INIT", self.certificate, MAX_CERTIFICATE), tail, self.parameters.encode())
        )

    @classmethod
    def decode(cls, payload: Buffer) -> E2eInit:
        """Extensions of a later version are ignored. @raise FrameRefused: if C{payload} is not one."""
        reader = FieldReader(payload, "E2E_INIT")
        certificate = reader.blob16(MAX_CERTIFICATE)
        handshake = reader.u64()
        session = _check_session("E2E_INIT", reader.u32())
        crl = reader.number(MAX_NUMBER)
        return cls(certificate, handshake, session, crl, EndParameters.take(reader))


@dataclass(frozen=True, slots=True)
class E2eResponse:
    """
    The payload of IK message 2.

    @ivar session: the index the initiator puts into frames to the responder; not 0.
    @ivar handshake: of the message 1 this answers.
    @ivar crl: number of the newest CRL held, 0 for none.
    @ivar serial: of the certificate the responder uses now.
    @ivar parameters: what the responder says of itself.
    """

    session: int
    handshake: int
    crl: int = 0
    serial: int = 0
    parameters: EndParameters = _SILENT

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        fields = _RESPONSE.pack(
            _check_session("E2E_RESP", self.session),
            check_range("E2E_RESP", self.handshake, _MAX_U64),
            check_range("E2E_RESP", self.crl, MAX_NUMBER),
            check_range("E2E_RESP", self.serial, MAX_NUMBER),
        )
        return fields + self.parameters.encode()

    @classmethod
    def decode(cls, payload: Buffer) -> E2eResponse:
        """Extensions of a later version are ignored. @raise FrameRefused: if C{payload} is not one."""
        reader = FieldReader(payload, "E2E_RESP")
        session = _check_session("E2E_RESP", reader.u32())
        handshake, crl, serial = reader.u64(), reader.number(MAX_NUMBER), reader.number(MAX_NUMBER)
        return cls(session, handshake, crl, serial, EndParameters.take(reader))


@dataclass(frozen=True, slots=True)
class Mark:
    """
    The body of ASK and of ACK, which repeats it at once: so far has come what I send.

    Nothing is sent again for it; its sender learns how much is still in flight.

    @ivar mark: a number of the asker, that rises.
    """

    mark: int

    def encode(self) -> bytes:
        """@raise FrameRefused: if it is too large."""
        return _U64.pack(check_range("acknowledgement", self.mark, _MAX_U64))

    @classmethod
    def decode(cls, body: Buffer) -> Mark:
        """@raise FrameRefused: if C{body} is not one."""
        reader = FieldReader(body, "acknowledgement")
        mark = cls(reader.u64())
        reader.finish()
        return mark


def _check_session(what: str, session: int) -> int:
    if not 0 < session <= _MAX_U32:
        raise refused(what, f"cannot carry the session index {session}")
    return session
