# SPDX-License-Identifier: MIT
"""
What the XX handshake messages carry: genesis versions, certificates, missing genesis documents.

Tests: C{tests/wire/test_messages.py}.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from gmesh.wire.codec import Buffer, FieldReader, check_range, pack_blob16, refused
from gmesh.wire.limits import MAX_CERTIFICATE, MAX_HANDSHAKE_DOCUMENT_BYTES, MAX_HANDSHAKE_DOCUMENTS

__all__ = ["HandshakePayload", "decode_genesis_version", "encode_genesis_version"]

_VERSION = struct.Struct(">I")
_NAME = "handshake payload"
_MAX_VERSION = 2**32 - 1


def encode_genesis_version(version: int) -> bytes:
    """The payload of message 1, sent in clear."""
    return _VERSION.pack(check_range(_NAME, version, _MAX_VERSION))


def decode_genesis_version(payload: Buffer) -> int:
    """The genesis version in the payload of message 1. @raise FrameRefused: if it is not one."""
    reader = FieldReader(payload, _NAME)
    version = reader.u32()
    reader.finish()
    return version


@dataclass(frozen=True, slots=True)
class HandshakePayload:
    """
    The payload of messages 2 and 3.

    @ivar genesis_version: the newest genesis the sender holds.
    @ivar certificate: the sender's certificate in file form.
    @ivar genesis_documents: those the receiver lacks, ascending by version.
    """

    genesis_version: int
    certificate: bytes
    genesis_documents: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        documents = self.genesis_documents
        if (
            len(documents) > MAX_HANDSHAKE_DOCUMENTS
            or sum(map(len, documents)) > MAX_HANDSHAKE_DOCUMENT_BYTES
        ):
            raise refused(_NAME, "cannot carry so many genesis documents")
        return b"".join(
            (
                encode_genesis_version(self.genesis_version),
                pack_blob16(_NAME, self.certificate, MAX_CERTIFICATE),
                bytes((len(documents),)),
                *(pack_blob16(_NAME, document, MAX_HANDSHAKE_DOCUMENT_BYTES) for document in documents),
            )
        )

    @classmethod
    def decode(cls, payload: Buffer) -> HandshakePayload:
        """@raise FrameRefused: if C{payload} is not one."""
        reader = FieldReader(payload, _NAME)
        version = reader.u32()
        certificate = reader.blob16(MAX_CERTIFICATE)
        count = reader.u8()
        if count > MAX_HANDSHAKE_DOCUMENTS:
            raise reader.refused(f"carries {count} documents, at most {MAX_HANDSHAKE_DOCUMENTS} are allowed")
        room = MAX_HANDSHAKE_DOCUMENT_BYTES
        documents = []
        for _ in range(count):
            document = reader.blob16(room)
            room -= len(document)
            documents.append(document)
        reader.finish()
        return cls(version, certificate, tuple(documents))
