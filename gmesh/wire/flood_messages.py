# SPDX-License-Identifier: MIT
"""
Bodies that spread node records: LSA, IHAVE and the three of the digest sync.

Tests: C{tests/wire/test_messages.py}.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from gmesh.wire.codec import Buffer, FieldReader, check_bytes, check_range, pack_blob16, refused
from gmesh.wire.limits import HANDLE, MAX_FRAGMENT_INDEX, MAX_FRAME_BODY, MAX_NODE_RECORD, MAX_NODE_RECORDS

__all__ = [
    "BUCKET_DIGEST",
    "BUCKETS",
    "HASH_PREFIX",
    "MAX_IHAVE",
    "MAX_SYNC_LIST",
    "MAX_SYNC_WANT",
    "Ihave",
    "Lsa",
    "RecordKey",
    "RecordNumber",
    "RecordSummary",
    "SyncDigest",
    "SyncList",
    "SyncWant",
]

BUCKETS = 256
BUCKET_DIGEST = 8
HASH_PREFIX = 4

_COUNT = struct.Struct(">H")
_KEY = struct.Struct(">8sB")
_NUMBER = struct.Struct(">8sBQ")
_SUMMARY = struct.Struct(">8sBQ4s")

MAX_IHAVE = (MAX_FRAME_BODY - _COUNT.size) // _NUMBER.size
MAX_SYNC_LIST = (MAX_FRAME_BODY - _COUNT.size) // _SUMMARY.size
MAX_SYNC_WANT = (MAX_FRAME_BODY - _COUNT.size) // _KEY.size
_MAX_U64 = 2**64 - 1


class RecordKey(NamedTuple):
    """Which record: (origin handle, fragment)."""

    origin: bytes
    fragment: int


class RecordNumber(NamedTuple):
    """Which version of a record."""

    origin: bytes
    fragment: int
    sequence: int


class RecordSummary(NamedTuple):
    """Which version, and the first 4 bytes of the SHA-256 of the record, so that an equivocation differs."""

    origin: bytes
    fragment: int
    sequence: int
    hash_prefix: bytes


@dataclass(frozen=True, slots=True)
class Lsa:
    """One or more encoded node records, not looked into here."""

    records: tuple[bytes, ...]

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        _count("LSA", self.records, MAX_NODE_RECORDS)
        return b"".join(
            (
                _COUNT.pack(len(self.records)),
                *(pack_blob16("LSA", record, MAX_NODE_RECORD) for record in self.records),
            )
        )

    @classmethod
    def decode(cls, body: Buffer) -> Lsa:
        """@raise FrameRefused: if C{body} is not one."""
        reader = FieldReader(body, "LSA")
        count = reader.count16(3, MAX_NODE_RECORDS)
        records = tuple(reader.blob16(MAX_NODE_RECORD) for _ in range(count))
        reader.finish()
        _count("LSA", records, MAX_NODE_RECORDS)
        return cls(records)


@dataclass(frozen=True, slots=True)
class Ihave:
    """The lazy half of flooding: records the sender could send. Answered by SYNC_WANT."""

    entries: tuple[RecordNumber, ...]

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        return _pack_entries("IHAVE", _NUMBER, self.entries, MAX_IHAVE)

    @classmethod
    def decode(cls, body: Buffer) -> Ihave:
        """@raise FrameRefused: if C{body} is not one."""
        return cls(
            tuple(RecordNumber(*fields) for fields in _unpack_entries("IHAVE", _NUMBER, body, MAX_IHAVE))
        )


@dataclass(frozen=True, slots=True)
class SyncDigest:
    """
    Buckets and the sender's digests of them, ascending. The receiver answers with a L{SyncList}
    of its records in those where its own digest differs.
    """

    buckets: tuple[tuple[int, bytes], ...]

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        _check_buckets(self.buckets)
        parts = [_COUNT.pack(len(self.buckets))]
        for number, digest in self.buckets:
            check_bytes("SYNC_DIGEST", digest, BUCKET_DIGEST, BUCKET_DIGEST)
            parts += (bytes((number,)), digest)
        return b"".join(parts)

    @classmethod
    def decode(cls, body: Buffer) -> SyncDigest:
        """@raise FrameRefused: if C{body} is not one."""
        reader = FieldReader(body, "SYNC_DIGEST")
        count = reader.count16(1 + BUCKET_DIGEST, BUCKETS)
        buckets = tuple((reader.u8(), reader.take(BUCKET_DIGEST)) for _ in range(count))
        reader.finish()
        _check_buckets(buckets)
        return cls(buckets)


@dataclass(frozen=True, slots=True)
class SyncList:
    """What the sender holds in the buckets asked for; a long list takes several frames."""

    entries: tuple[RecordSummary, ...]

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        return _pack_entries("SYNC_LIST", _SUMMARY, self.entries, MAX_SYNC_LIST)

    @classmethod
    def decode(cls, body: Buffer) -> SyncList:
        """@raise FrameRefused: if C{body} is not one."""
        entries = _unpack_entries("SYNC_LIST", _SUMMARY, body, MAX_SYNC_LIST)
        return cls(tuple(RecordSummary(*fields) for fields in entries))


@dataclass(frozen=True, slots=True)
class SyncWant:
    """Records the sender wants; answered by LSA."""

    entries: tuple[RecordKey, ...]

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        return _pack_entries("SYNC_WANT", _KEY, self.entries, MAX_SYNC_WANT)

    @classmethod
    def decode(cls, body: Buffer) -> SyncWant:
        """@raise FrameRefused: if C{body} is not one."""
        return cls(
            tuple(RecordKey(*fields) for fields in _unpack_entries("SYNC_WANT", _KEY, body, MAX_SYNC_WANT))
        )


def _count(what: str, entries: tuple[object, ...], limit: int) -> None:
    if not 0 < len(entries) <= limit:
        raise refused(what, f"cannot have {len(entries)} entries, allowed are 1 to {limit}")


def _check_buckets(buckets: tuple[tuple[int, bytes], ...]) -> None:
    numbers = [number for number, _ in buckets]
    _count("SYNC_DIGEST", buckets, BUCKETS)
    if numbers != sorted(set(numbers)) or not 0 <= numbers[0] <= numbers[-1] < BUCKETS:
        raise refused("SYNC_DIGEST", "does not list its buckets once each, ascending")


def _pack_entries(
    what: str, layout: struct.Struct, entries: Iterable[RecordKey | RecordNumber | RecordSummary], limit: int
) -> bytes:
    rows = tuple(entries)
    check_range(what, len(rows), limit)
    for row in rows:
        check_bytes(what, row.origin, HANDLE, HANDLE)
        check_range(what, row.fragment, MAX_FRAGMENT_INDEX)
        if not isinstance(row, RecordKey):
            check_range(what, row.sequence, _MAX_U64)
        if isinstance(row, RecordSummary):
            check_bytes(what, row.hash_prefix, HASH_PREFIX, HASH_PREFIX)
    return b"".join((_COUNT.pack(len(rows)), *(layout.pack(*row) for row in rows)))


def _unpack_entries(what: str, layout: struct.Struct, body: Buffer, limit: int) -> list[tuple[Any, ...]]:
    reader = FieldReader(body, what)
    count = reader.count16(layout.size, limit)
    if count * layout.size != reader.left:
        raise reader.refused("does not end with its last entry")
    rows = list(layout.iter_unpack(memoryview(body)[_COUNT.size :]))
    if any(row[1] > MAX_FRAGMENT_INDEX for row in rows):
        raise reader.refused(f"names a fragment above {MAX_FRAGMENT_INDEX}")
    return rows
