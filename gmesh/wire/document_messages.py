# SPDX-License-Identifier: MIT
"""
Bodies that spread signed documents and certificates, and the putting together of large ones.

Tests: C{tests/wire/test_messages.py}.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from gmesh.wire.codec import Buffer, FieldReader, check_bytes, check_range, pack_blob16, refused
from gmesh.wire.limits import (
    HANDLE,
    MAX_CERTIFICATE,
    MAX_CERTIFICATES,
    MAX_DOCUMENT,
    MAX_DOCUMENT_CHUNK,
    MAX_NUMBER,
)

__all__ = [
    "NO_DIGEST",
    "CertAnswer",
    "CertRequest",
    "CertificateKey",
    "CommandRequest",
    "DocumentAssembler",
    "DocumentPush",
    "DocumentRequest",
]

DIGEST = 32
NO_DIGEST = bytes(DIGEST)
"""In a request: whichever you hold."""

_COUNT = struct.Struct(">H")
_PUSH = struct.Struct(">Q32sII")
_REQUEST = struct.Struct(">Q32sI")
_NUMBER = struct.Struct(">Q")


class CertificateKey(NamedTuple):
    """Which certificate: (node's handle, serial)."""

    handle: bytes
    serial: int


@dataclass(frozen=True, slots=True)
class CertRequest:
    """Certificates the sender wants."""

    wanted: tuple[CertificateKey, ...]

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        _count("CERT_REQ", len(self.wanted))
        parts = [_COUNT.pack(len(self.wanted))]
        for handle, serial in self.wanted:
            check_bytes("CERT_REQ", handle, HANDLE, HANDLE)
            parts += (handle, _NUMBER.pack(check_range("CERT_REQ", serial, MAX_NUMBER)))
        return b"".join(parts)

    @classmethod
    def decode(cls, body: Buffer) -> CertRequest:
        """@raise FrameRefused: if C{body} is not one."""
        reader = FieldReader(body, "CERT_REQ")
        count = reader.count16(HANDLE + _NUMBER.size, MAX_CERTIFICATES)
        _count("CERT_REQ", count)
        wanted = tuple(CertificateKey(reader.handle(), reader.number(MAX_NUMBER)) for _ in range(count))
        reader.finish()
        return cls(wanted)


@dataclass(frozen=True, slots=True)
class CertAnswer:
    """The body of CERT: certificates in file form, asked for or renewed."""

    certificates: tuple[bytes, ...]

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        _count("CERT", len(self.certificates))
        return b"".join(
            (
                _COUNT.pack(len(self.certificates)),
                *(pack_blob16("CERT", certificate, MAX_CERTIFICATE) for certificate in self.certificates),
            )
        )

    @classmethod
    def decode(cls, body: Buffer) -> CertAnswer:
        """@raise FrameRefused: if C{body} is not one."""
        reader = FieldReader(body, "CERT")
        count = reader.count16(3, MAX_CERTIFICATES)
        _count("CERT", count)
        certificates = tuple(reader.blob16(MAX_CERTIFICATE) for _ in range(count))
        reader.finish()
        return cls(certificates)


@dataclass(frozen=True, slots=True)
class DocumentPush:
    """
    The body of CRL, POLICY, GENESIS, STATUS and COMMAND: a document, a piece of one, or (empty
    C{data}) the news that the sender holds one too large to send unasked.

    @ivar number: of the document, or its version.
    @ivar digest: SHA-256 of the whole document as transferred, in file form.
    @ivar total: length of the whole document.
    @ivar offset: where C{data} belongs, a multiple of L{MAX_DOCUMENT_CHUNK}; all pieces but the
        last are that long.
    """

    number: int
    digest: bytes
    total: int
    offset: int
    data: bytes

    @classmethod
    def of(cls, number: int, document: bytes, offset: int = 0, digest: bytes = b"") -> DocumentPush:
        """
        The piece of C{document} at C{offset}: all of it, if it is small.

        @param digest: of the document; computed when left out.
        """
        digest = digest or sha256(document).digest()
        return cls(number, digest, len(document), offset, document[offset : offset + MAX_DOCUMENT_CHUNK])

    @classmethod
    def first(cls, number: int, document: bytes) -> DocumentPush:
        """What to send unasked: the whole document if it travels inline, else its announcement."""
        if len(document) <= MAX_DOCUMENT_CHUNK:
            return cls.of(number, document)
        return cls(number, sha256(document).digest(), len(document), 0, b"")

    @classmethod
    def pieces(cls, number: int, document: bytes) -> list[DocumentPush]:
        """The whole document in order: how a COMMAND is sent, which is never announced."""
        digest = sha256(document).digest()
        return [cls.of(number, document, at, digest) for at in range(0, len(document), MAX_DOCUMENT_CHUNK)]

    @property
    def whole(self) -> bool:
        """True if C{data} is the whole document."""
        return len(self.data) == self.total

    @property
    def announcement(self) -> bool:
        """True if this only says that the sender holds the document."""
        return not self.data

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        self._check()
        return _PUSH.pack(self.number, self.digest, self.total, self.offset) + self.data

    @classmethod
    def decode(cls, body: Buffer) -> DocumentPush:
        """@raise FrameRefused: if C{body} is not one, or a whole document does not have its digest."""
        reader = FieldReader(body, "document")
        push = cls(
            reader.u64(), reader.take(DIGEST), reader.u32(), reader.u32(), reader.rest(MAX_DOCUMENT_CHUNK)
        )
        push._check()
        if push.whole and sha256(push.data).digest() != push.digest:
            raise refused("document", "does not have the digest it is sent with")
        return push

    def _check(self) -> None:
        check_range("document", self.number, MAX_NUMBER)
        check_bytes("document", self.digest, DIGEST, DIGEST)
        check_bytes("document", self.data, 0, MAX_DOCUMENT_CHUNK)
        check_range("document", self.total, MAX_DOCUMENT)
        _check_offset(self.offset)
        size = len(self.data)
        if self.announcement:
            if self.offset or self.total <= MAX_DOCUMENT_CHUNK:
                raise refused("document", "is announced although it travels inline")
        elif size != min(MAX_DOCUMENT_CHUNK, self.total - self.offset):
            raise refused("document", f"has no piece of {size} bytes at {self.offset} of {self.total}")


@dataclass(frozen=True, slots=True)
class DocumentRequest:
    """
    The body of CRL_REQ, POLICY_REQ, GENESIS_REQ and STATUS_REQ. Answered by the matching
    L{DocumentPush} at C{offset}, or not at all when the receiver holds nothing that fits.

    @ivar number: of a genesis the version wanted; of others at least this number, 0 for any.
    @ivar digest: the document begun before, or L{NO_DIGEST}.
    @ivar offset: where to go on.
    """

    number: int
    digest: bytes = NO_DIGEST
    offset: int = 0

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        check_bytes("document request", self.digest, DIGEST, DIGEST)
        _check_offset(self.offset)
        return _REQUEST.pack(
            check_range("document request", self.number, MAX_NUMBER), self.digest, self.offset
        )

    @classmethod
    def decode(cls, body: Buffer) -> DocumentRequest:
        """@raise FrameRefused: if C{body} is not one."""
        reader = FieldReader(body, "document request")
        request = cls(reader.number(MAX_NUMBER), reader.take(DIGEST), reader.u32())
        reader.finish()
        _check_offset(request.offset)
        return request


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """The body of COMMAND_REQ: all commands with a number above C{since}."""

    since: int

    def encode(self) -> bytes:
        """@raise FrameRefused: if the number is too large."""
        return _NUMBER.pack(check_range("COMMAND_REQ", self.since, MAX_NUMBER))

    @classmethod
    def decode(cls, body: Buffer) -> CommandRequest:
        """@raise FrameRefused: if C{body} is not one."""
        reader = FieldReader(body, "COMMAND_REQ")
        since = reader.number(MAX_NUMBER)
        reader.finish()
        return cls(since)


class DocumentAssembler:
    """
    Puts the pieces of one announced document together, in order; holds nothing beyond what came.

    @param push: the announcement or first piece; a piece is then given to L{add} too.
    """

    __slots__ = ("_data", "digest", "number", "total")

    def __init__(self, push: DocumentPush) -> None:
        self.number = push.number
        self.digest = push.digest
        self.total = push.total
        self._data = bytearray()

    @property
    def request(self) -> DocumentRequest:
        """What to ask for next."""
        return DocumentRequest(self.number, self.digest, len(self._data))

    def add(self, push: DocumentPush) -> bytes | None:
        """
        The whole document once its last piece is here, else None; a piece of another document or
        from elsewhere in this one is ignored.

        @raise FrameRefused: C{malformed}, if the whole does not have the digest announced.
        """
        if (push.digest, push.total, push.offset) != (self.digest, self.total, len(self._data)):
            return None
        self._data += push.data
        if len(self._data) < self.total:
            return None
        document = bytes(self._data)
        if sha256(document).digest() != self.digest:
            raise refused("document", "does not have the digest it was announced with")
        return document


def _check_offset(offset: int) -> None:
    if not 0 <= offset < MAX_DOCUMENT or offset % MAX_DOCUMENT_CHUNK:
        raise refused(
            "document", f"has no piece at {offset}: they start at multiples of {MAX_DOCUMENT_CHUNK}"
        )


def _count(what: str, count: int) -> None:
    if not 0 < count <= MAX_CERTIFICATES:
        raise refused(what, f"cannot have {count} entries, allowed are 1 to {MAX_CERTIFICATES}")
