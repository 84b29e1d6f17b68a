# SPDX-License-Identifier: MIT
"""
Cutting a byte stream into records: u16 length, then one Noise message.

Tests: C{tests/wire/test_frames.py}.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from gmesh.errors import FrameRefused
from gmesh.wire.codec import Buffer
from gmesh.wire.limits import MAX_RECORD, TAG

__all__ = ["LENGTH_SIZE", "RecordReader", "frame_record", "record_head"]

LENGTH_SIZE = 2

_LENGTH = struct.Struct(">H")


def record_head(ciphertext: bytes) -> bytes:
    """What stands before a Noise message: its length. @raise FrameRefused: if it is empty or too long."""
    size = len(ciphertext)
    if not 0 < size <= MAX_RECORD:
        raise FrameRefused(
            "record-size", f"a record of {size} bytes cannot be sent, the limit is {MAX_RECORD}"
        )
    return _LENGTH.pack(size)


def frame_record(ciphertext: bytes) -> bytes:
    """The Noise message with its length before it. @raise FrameRefused: if it is empty or too long."""
    return record_head(ciphertext) + ciphertext


class RecordReader:
    """
    Bytes in, whole Noise messages out; at most one unfinished record is held.

    @param first: largest lengths of the first records, those of the handshake: L{RESPONDER_READS
        <gmesh.wire.limits.RESPONDER_READS>} or L{INITIATOR_READS <gmesh.wire.limits.INITIATOR_READS>}.
        All later ones are sealed and have at most L{MAX_RECORD} bytes.
    """

    __slots__ = ("_first", "_held", "_missing")

    def __init__(self, first: Sequence[int] = ()) -> None:
        self._first = list(reversed(first))
        self._held = bytearray()
        self._missing = LENGTH_SIZE

    def feed(self, data: Buffer) -> list[memoryview]:
        """
        The Noise messages completed by C{data}, without their lengths.

        The views are read-only and keep C{data}, which must not change, alive.

        @raise FrameRefused: C{record-size}, as soon as the length is known.
        """
        if self._held:
            return self._resume(memoryview(data))
        return self._cut(memoryview(data).toreadonly())

    @property
    def held(self) -> int:
        """Bytes of the unfinished record."""
        return len(self._held)

    def _limit(self, size: int) -> None:
        low, high = (1, self._first[-1]) if self._first else (TAG + 1, MAX_RECORD)
        if not low <= size <= high:
            raise FrameRefused(
                "record-size", f"a record of {size} bytes arrived, allowed are {low} to {high}"
            )

    def _resume(self, view: memoryview) -> list[memoryview]:
        if len(view) < self._missing:
            self._hold(view)
            return []
        held, self._held = self._held, bytearray()
        if len(held) < LENGTH_SIZE:
            return self._cut(memoryview(held + view).toreadonly())
        first, rest = view[: self._missing], view[self._missing :]  # the rest, often far more, is not copied
        held += first
        return self._cut(memoryview(held).toreadonly()) + self._cut(rest.toreadonly())

    def _hold(self, view: memoryview) -> None:
        self._held += view
        self._missing -= len(view)

    def _cut(self, view: memoryview) -> list[memoryview]:
        records = []
        at, end = 0, len(view)
        unpack = _LENGTH.unpack_from
        while end - at >= LENGTH_SIZE:
            (size,) = unpack(view, at)
            if self._first or size <= TAG:
                self._limit(size)
            following = at + LENGTH_SIZE + size
            if following > end:
                self._missing = following - at
                break
            records.append(view[at + LENGTH_SIZE : following])
            if self._first:
                self._first.pop()
            at = following
        else:
            self._missing = LENGTH_SIZE
        if at < end:
            self._hold(view[at:])
        return records
