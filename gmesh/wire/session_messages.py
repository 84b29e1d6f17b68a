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
from enum import IntEnum

from gmesh.wire.codec import Buffer, FieldReader, check_range, pack_blob16, refused
from gmesh.wire.frames import iter_frames
from gmesh.wire.limits import MAX_CERTIFICATE, MAX_EXTENSION, MAX_NUMBER

__all__ = ["E2eInit", "E2eResponse", "Inner", "Mark", "iter_inner"]

_INIT_TAIL = struct.Struct(">QIQ")
_RESPONSE = struct.Struct(">IQQQ")
_U64 = struct.Struct(">Q")
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
        reader = FieldReader(payload, "E2E_INIT")
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
        reader = FieldReader(payload, "E2E_RESP")
        session = _check_session("E2E_RESP", reader.u32())
        response = cls(session, reader.u64(), reader.number(MAX_NUMBER), reader.number(MAX_NUMBER))
        reader.skip_extension(MAX_EXTENSION)
        return response


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
