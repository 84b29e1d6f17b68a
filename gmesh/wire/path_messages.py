# SPDX-License-Identifier: MIT
"""
Bodies about paths: UNREACH and DROPPED (payloads behind a path header), PATH_REQ and PATH_REP.

Tests: C{tests/wire/test_messages.py}.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from gmesh.wire.codec import Buffer, FieldReader, check_bytes, check_range, encode_text, pack_blob16
from gmesh.wire.limits import (
    HANDLE,
    MAX_HANDLES,
    MAX_NODE_NAME,
    MAX_NODE_RECORD,
    MAX_NODE_RECORDS,
    MIN_HANDLES,
)

__all__ = ["NO_HANDLE", "Dropped", "PathReply", "PathRequest", "Unreach"]

NO_HANDLE = bytes(HANDLE)

_COUNT = struct.Struct(">H")
_DROPPED = struct.Struct(">8sI")
_REQUEST = struct.Struct(">I8s")
_REPLY = struct.Struct(">IBB")
_MAX_U32 = 2**32 - 1
_FLAG_MORE = 1


@dataclass(frozen=True, slots=True)
class Unreach:
    """
    The payload of UNREACH; its path header has the receiver index and counter of the refused frame.

    @ivar destination: where the refused frame was to go.
    @ivar next_hop: the other end of the sender's link that is gone, or L{NO_HANDLE} if it only knows no path.
    @ivar record: the sender's own node record, the proof: it speaks only for its own links.
    """

    destination: bytes
    next_hop: bytes
    record: bytes

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        check_bytes("UNREACH", self.destination, HANDLE, HANDLE)
        check_bytes("UNREACH", self.next_hop, HANDLE, HANDLE)
        return self.destination + self.next_hop + pack_blob16("UNREACH", self.record, MAX_NODE_RECORD)

    @classmethod
    def decode(cls, payload: Buffer) -> Unreach:
        """@raise FrameRefused: if C{payload} is not one."""
        reader = FieldReader(payload, "UNREACH")
        unreach = cls(reader.handle(), reader.handle(), reader.blob16(MAX_NODE_RECORD))
        reader.finish()
        return unreach


@dataclass(frozen=True, slots=True)
class Dropped:
    """
    The payload of DROPPED, a hint; its path header has the receiver index and counter of the
    newest frame dropped.

    @ivar destination: of the flow, whose source is where this goes.
    @ivar count: frames of the flow dropped since the last hint.
    """

    destination: bytes
    count: int

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        check_bytes("DROPPED", self.destination, HANDLE, HANDLE)
        return _DROPPED.pack(self.destination, check_range("DROPPED", self.count, _MAX_U32))

    @classmethod
    def decode(cls, payload: Buffer) -> Dropped:
        """@raise FrameRefused: if C{payload} is not one."""
        reader = FieldReader(payload, "DROPPED")
        dropped = cls(reader.handle(), reader.u32())
        reader.finish()
        return dropped


@dataclass(frozen=True, slots=True)
class PathRequest:
    """
    The body of PATH_REQ: which path would you take?

    @ivar request: chosen by the asker, repeated in the answer.
    @ivar destination: L{NO_HANDLE} if the asker knows only the name.
    @ivar name: of the destination, if the asker does not know its handle.
    """

    request: int
    destination: bytes
    name: str = ""

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        check_bytes("PATH_REQ", self.destination, HANDLE, HANDLE)
        head = _REQUEST.pack(check_range("PATH_REQ", self.request, _MAX_U32), self.destination)
        return head + encode_text("PATH_REQ", self.name, MAX_NODE_NAME) if self.name else head

    @classmethod
    def decode(cls, body: Buffer) -> PathRequest:
        """@raise FrameRefused: if C{body} is not one."""
        reader = FieldReader(body, "PATH_REQ")
        number, destination = reader.u32(), reader.handle()
        name = ""
        if reader.left:
            name = reader.text8(MAX_NODE_NAME)
            if not name:
                raise reader.refused("has an empty name")
        reader.finish()
        return cls(number, destination, name)


@dataclass(frozen=True, slots=True)
class PathReply:
    """
    The body of PATH_REP: a path through the answerer, and the node records along it as proof.

    @ivar path: handles, first the asker, then the answerer, last the destination; empty when there is none.
    @ivar records: encoded node records, for the asker to verify.
    @ivar more: True if another reply with the same path brings more records.
    """

    request: int
    path: tuple[bytes, ...]
    records: tuple[bytes, ...] = ()
    more: bool = False

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        check_range("PATH_REP", self.request, _MAX_U32)
        check_range("PATH_REP", len(self.path), MAX_HANDLES)
        check_range("PATH_REP", len(self.records), MAX_NODE_RECORDS)
        for handle in self.path:
            check_bytes("PATH_REP", handle, HANDLE, HANDLE)
        return b"".join(
            (
                _REPLY.pack(self.request, _FLAG_MORE if self.more else 0, len(self.path)),
                *self.path,
                _COUNT.pack(len(self.records)),
                *(pack_blob16("PATH_REP", record, MAX_NODE_RECORD) for record in self.records),
            )
        )

    @classmethod
    def decode(cls, body: Buffer) -> PathReply:
        """@raise FrameRefused: if C{body} is not one."""
        reader = FieldReader(body, "PATH_REP")
        request, flags, length = reader.u32(), reader.u8(), reader.u8()
        if flags > _FLAG_MORE or length > MAX_HANDLES or 0 < length < MIN_HANDLES:
            raise reader.refused(f"has flags {flags} and {length} handles")
        path = tuple(reader.handle() for _ in range(length))
        count = reader.count16(3, MAX_NODE_RECORDS)
        records = tuple(reader.blob16(MAX_NODE_RECORD) for _ in range(count))
        reader.finish()
        return cls(request, path, records, bool(flags))
