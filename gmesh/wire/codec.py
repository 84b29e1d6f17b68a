# SPDX-License-Identifier: MIT
"""
One reader and a few checks that all decoders share, so that each refuses alike.

Integers are unsigned and big-endian everywhere on the wire.
Tests: C{tests/wire/test_messages.py}.
"""

from __future__ import annotations

import struct

from gmesh.errors import FrameRefused
from gmesh.wire.limits import HANDLE

__all__ = ["Buffer", "FieldReader", "check_bytes", "check_range", "encode_text", "pack_blob16", "refused"]

Buffer = bytes | bytearray | memoryview

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")


def refused(what: str, why: str) -> FrameRefused:
    """The refusal of a malformed C{what}. @param why: completes "a CLOSE ..."."""
    return FrameRefused(
        "malformed", f"a {what} {why}: the sender breaks the protocol or speaks another version"
    )


class FieldReader:
    """
    Takes fields off the front of a body; every shortage is a L{FrameRefused}.

    @param what: the name of the message, for the refusal.
    """

    __slots__ = ("_at", "_end", "_view", "_what")

    def __init__(self, data: Buffer, what: str) -> None:
        self._view = memoryview(data)
        self._at = 0
        self._end = len(self._view)
        self._what = what

    @property
    def left(self) -> int:
        """Bytes not yet taken."""
        return self._end - self._at

    def refused(self, why: str) -> FrameRefused:
        """The refusal of this message."""
        return refused(self._what, why)

    def _advance(self, size: int) -> int:
        at = self._at
        if size > self._end - at:
            raise self.refused("ends too early")
        self._at = at + size
        return at

    def u8(self) -> int:
        """One byte."""
        return self._view[self._advance(1)]

    def u16(self) -> int:
        """Two bytes."""
        return int(_U16.unpack_from(self._view, self._advance(2))[0])

    def u32(self) -> int:
        """Four bytes."""
        return int(_U32.unpack_from(self._view, self._advance(4))[0])

    def u64(self) -> int:
        """Eight bytes."""
        return int(_U64.unpack_from(self._view, self._advance(8))[0])

    def number(self, limit: int) -> int:
        """A u64 that is at most C{limit}."""
        value = self.u64()
        if value > limit:
            raise self.refused(f"carries the number {value}, the limit is {limit}")
        return value

    def take(self, size: int) -> bytes:
        """Exactly C{size} bytes, copied out."""
        at = self._advance(size)
        return bytes(self._view[at : at + size])

    def handle(self) -> bytes:
        """A routing handle."""
        return self.take(HANDLE)

    def rest(self, limit: int) -> bytes:
        """All that is left, at most C{limit} bytes."""
        if self.left > limit:
            raise self.refused(f"has {self.left} bytes where at most {limit} are allowed")
        return self.take(self.left)

    def blob16(self, limit: int) -> bytes:
        """A u16 length from 1 to C{limit}, then that many bytes."""
        size = self.u16()
        if not 0 < size <= limit:
            raise self.refused(f"has a field of {size} bytes, allowed are 1 to {limit}")
        return self.take(size)

    def text8(self, limit: int) -> str:
        """A u8 length up to C{limit}, then that many printable ASCII characters."""
        size = self.u8()
        if size > limit:
            raise self.refused(f"has a text of {size} bytes, at most {limit} are allowed")
        raw = self.take(size)
        if not all(0x20 <= byte < 0x7F for byte in raw):
            raise self.refused("has a text that is not printable ASCII")
        return raw.decode("ascii")

    def count16(self, item: int, limit: int) -> int:
        """A u16 count of items of at least C{item} bytes each, which must all be there."""
        count = self.u16()
        if count > limit:
            raise self.refused(f"counts {count} entries, at most {limit} are allowed")
        if count * item > self.left:
            raise self.refused("ends too early")
        return count

    def skip_extension(self, limit: int) -> None:
        """Ignore what a later version appended."""
        if self.left > limit:
            raise self.refused(f"has {self.left} unknown bytes at its end, at most {limit} are allowed")
        self._at = self._end

    def finish(self) -> None:
        """Refuse anything left over."""
        if self.left:
            raise self.refused(f"has {self.left} bytes too many")


def check_range(what: str, value: int, limit: int) -> int:
    """C{value} if it is from 0 to C{limit}. @raise FrameRefused: otherwise."""
    if not 0 <= value <= limit:
        raise refused(what, f"cannot carry {value}, the limit is {limit}")
    return value


def check_bytes(what: str, data: Buffer, low: int, high: int) -> Buffer:
    """C{data} if it has C{low} to C{high} bytes. @raise FrameRefused: otherwise."""
    if not low <= len(data) <= high:
        raise refused(what, f"cannot carry a field of {len(data)} bytes, allowed are {low} to {high}")
    return data


def pack_blob16(what: str, data: Buffer, limit: int) -> bytes:
    """A u16 length and the bytes, from 1 to C{limit}."""
    check_bytes(what, data, 1, limit)
    return _U16.pack(len(data)) + data


def encode_text(what: str, text: str, limit: int) -> bytes:
    """A u8 length and the characters, printable ASCII."""
    if len(text) > limit or not (text.isascii() and (text.isprintable() or not text)):
        raise refused(
            what, f"cannot carry a text of {len(text)} characters: at most {limit}, printable ASCII"
        )
    return bytes((len(text),)) + text.encode("ascii")
