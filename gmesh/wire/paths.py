# SPDX-License-Identifier: MIT
"""
The path header of data frames, which relays read, and the fast ways to build it.

Body of a data frame: flags 1, hop index 1, class 1, path length 1, path n x 8, receiver index 4,
counter 8, then the payload. The flags hold the number of splices; their other bits are zero.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Final, NamedTuple

from gmesh.errors import FrameRefused
from gmesh.wire.codec import Buffer, refused
from gmesh.wire.frames import HEADER, Kind
from gmesh.wire.limits import (
    FRAME_HEADER,
    HANDLE,
    MAX_DATA_CIPHERTEXT,
    MAX_FRAME_BODY,
    MAX_HANDLES,
    MAX_SPLICES,
    MIN_HANDLES,
)

__all__ = [
    "AT_CLASS",
    "AT_COUNT",
    "AT_FLAGS",
    "AT_HOP",
    "AT_PATH",
    "FrameTemplate",
    "PathHeader",
    "TrafficClass",
    "associated_data",
    "pack_counter",
    "pack_path_frame",
    "peek_key",
    "peek_path",
    "read_path",
    "reply_path",
    "splice",
]

AT_FLAGS = FRAME_HEADER
AT_HOP = FRAME_HEADER + 1
AT_CLASS = FRAME_HEADER + 2
AT_COUNT = FRAME_HEADER + 3
AT_PATH = FRAME_HEADER + 4
"""Where these fields stand, counted from the start of the frame."""

TAIL = 12
"""Receiver index and counter, behind the path."""

PARSED_PATHS = 512
"""Paths remembered in parsed form, so that only the first frame of a flow is taken apart."""

_SHORTEST = AT_PATH + MIN_HANDLES * HANDLE + TAIL

_FIXED = struct.Struct(">BBBB")
_PEEK = struct.Struct(f">{FRAME_HEADER}xBBBB")
_TAIL = struct.Struct(">IQ")
_COUNTER = struct.Struct(">Q")
pack_counter: Final = _COUNTER.pack
"""The 8 bytes of a counter, as the header ends with them."""
_NAME = "path header"


class TrafficClass(IntEnum):
    """What kind of traffic a frame is; a receiver treats a value it does not know as NORMAL."""

    NORMAL = 0
    INTERACTIVE = 1
    BULK = 2


class PathHeader(NamedTuple):
    """
    The header as an object, for ends and rare cases; relays use L{peek_path}.

    @ivar path: routing handles, first the source, last the destination.
    @ivar hop: position in C{path} of the node that now handles the frame; 1 when the source sends it.
    @ivar receiver_index: the session index chosen by the receiver of this direction; 0 in E2E_INIT.
    @ivar counter: of the sealed payload; the handshake number in E2E_INIT and E2E_RESP.
    @ivar splices: how often a relay has replaced the tail of the path.
    """

    path: tuple[bytes, ...]
    receiver_index: int = 0
    counter: int = 0
    hop: int = 1
    traffic_class: int = TrafficClass.NORMAL
    splices: int = 0

    @property
    def source(self) -> bytes:
        """The first handle."""
        return self.path[0]

    @property
    def destination(self) -> bytes:
        """The last handle."""
        return self.path[-1]

    @property
    def visited(self) -> tuple[bytes, ...]:
        """The handles up to and with the node that now handles the frame."""
        return self.path[: self.hop + 1]

    @property
    def size(self) -> int:
        """Length of the encoded header."""
        return _FIXED.size + HANDLE * len(self.path) + TAIL

    def encode(self) -> bytes:
        """@raise FrameRefused: if a limit would be exceeded."""
        count = len(self.path)
        if (
            not MIN_HANDLES <= count <= MAX_HANDLES
            or not 0 < self.hop < count
            or any(len(h) != HANDLE for h in self.path)
        ):
            raise refused(_NAME, f"cannot carry a path of {count} handles at hop {self.hop}")
        try:
            fixed = _FIXED.pack(self.splices, self.hop, self.traffic_class, count)
            tail = _TAIL.pack(self.receiver_index, self.counter)
        except struct.error:
            raise refused(_NAME, "has a number outside of its field") from None
        if self.splices > MAX_SPLICES:
            raise refused(_NAME, f"counts {self.splices} splices, at most {MAX_SPLICES} are allowed")
        return b"".join((fixed, *self.path, tail))


def peek_path(record: Buffer, start: int, end: int) -> tuple[int, int, int]:
    """
    The least a relay needs of the data frame C{record[start:end]}.

    @return: (splices, hop, path_end): the path is C{record[start + AT_PATH:path_end]}, and
        C{record[start + AT_FLAGS:path_end]} is the key of a cache of verdicts.
    @raise FrameRefused: C{malformed}, if the fixed fields break the format; repeated handles are
        the business of the check whose verdict is cached.
    """
    if end - start < _SHORTEST:
        raise refused(_NAME, "ends too early")
    splices, hop, _, count = _PEEK.unpack_from(record, start)
    path_end = start + AT_PATH + HANDLE * count
    if path_end + TAIL > end:
        raise refused(_NAME, "ends too early")
    _check(splices, hop, count)
    return splices, hop, path_end


def peek_key(record: Buffer, start: int, end: int) -> bytes:
    """
    Flags, hop index, class and path of the data frame C{record[start:end]}, the key of a cache of
    verdicts: whatever a relay decides depends on these bytes and the link they came on.

    @raise FrameRefused: C{malformed}, if the frame is too short for its path; the rest is checked
        by L{peek_path} when the key is new.
    """
    if end - start >= _SHORTEST:
        path_end = start + AT_PATH + HANDLE * record[start + AT_COUNT]
        if path_end + TAIL <= end:
            return bytes(record[start + AT_FLAGS : path_end])
    raise refused(_NAME, "ends too early")


def read_path(record: Buffer, start: int, end: int) -> tuple[PathHeader, int]:
    """
    The whole header of the data frame C{record[start:end]} and where its payload begins.

    @raise FrameRefused: C{malformed}, also when a handle is repeated.
    """
    key = peek_key(record, start, end)
    path, hop, traffic_class, splices = _parse(key)
    path_end = start + AT_FLAGS + len(key)
    index, counter = _TAIL.unpack_from(record, path_end)
    return PathHeader(path, index, counter, hop, traffic_class, splices), path_end + TAIL


@lru_cache(maxsize=PARSED_PATHS)
def _parse(key: bytes) -> tuple[tuple[bytes, ...], int, int, int]:
    """Path, hop index, class and splices in the bytes of L{peek_key}: the same for all frames of a flow."""
    splices, hop, traffic_class, count = _FIXED.unpack_from(key)
    _check(splices, hop, count)
    path = tuple(key[at : at + HANDLE] for at in range(_FIXED.size, len(key), HANDLE))
    if len(set(path)) != count:
        raise refused(_NAME, "names a node twice")
    return path, hop, traffic_class, splices


def _check(splices: int, hop: int, count: int) -> None:
    if splices > MAX_SPLICES or not 0 < hop < count <= MAX_HANDLES:
        raise refused(_NAME, f"is not valid: {count} handles, hop {hop}, flags {splices}")


def splice(record: Buffer, start: int, end: int, path: Sequence[bytes], hop: int, splices: int) -> bytes:
    """A copy of the data frame C{record[start:end]} with another path, hop index and splice count."""
    header, payload = read_path(record, start, end)
    changed = PathHeader(
        tuple(path), header.receiver_index, header.counter, hop, header.traffic_class, splices
    )
    return _join(record[start + 2], changed.encode(), record[payload:end])


def reply_path(header: PathHeader) -> PathHeader:
    """The header of an UNREACH or DROPPED about the frame with C{header}: back over the visited prefix."""
    return PathHeader(header.visited[::-1], header.receiver_index, header.counter, 1, header.traffic_class, 0)


def pack_path_frame(kind: int, header: PathHeader, payload: Buffer) -> bytes:
    """A whole data frame. @raise FrameRefused: if a limit would be exceeded."""
    if len(payload) > MAX_DATA_CIPHERTEXT:
        raise FrameRefused(
            "too-large", f"a data payload of {len(payload)} bytes is larger than {MAX_DATA_CIPHERTEXT}"
        )
    return _join(kind, header.encode(), payload)


def _join(kind: int, header: bytes, payload: Buffer) -> bytes:
    size = len(header) + len(payload)
    if size > MAX_FRAME_BODY:
        raise FrameRefused("too-large", f"a frame body of {size} bytes is larger than {MAX_FRAME_BODY}")
    return b"".join((HEADER.pack(size, kind), header, payload))


def associated_data(header: PathHeader, kind: int = Kind.E2E_DATA) -> bytes:
    """
    What the seal of an E2E_DATA also covers: kind, class, source, destination, receiver index,
    counter. Not the path nor the hop index: they change on the way.
    """
    return b"".join(
        (
            bytes((kind, header.traffic_class)),
            header.source,
            header.destination,
            _TAIL.pack(header.receiver_index, header.counter),
        )
    )


class FrameTemplate:
    """
    All that is constant in the E2E_DATA frames of one session over one path.

    @ivar associated: what the seal also covers, but for the counter that L{pack_counter} packs.
    @ivar flow: source and destination handles, 16 bytes: the key of the queues.
    """

    __slots__ = ("_constant", "_header", "_length", "_size", "associated", "flow")

    def __init__(
        self, path: Sequence[bytes], receiver_index: int, traffic_class: int = TrafficClass.NORMAL
    ) -> None:
        header = PathHeader(tuple(path), receiver_index, 0, 1, traffic_class, 0)
        self._header = header.encode()[: -_COUNTER.size]
        self._size = header.size
        self._length = -1
        self._constant = b""
        self.associated = associated_data(header)[: -_COUNTER.size]
        self.flow = header.source + header.destination

    def head(self, counter: bytes, length: int) -> bytes:
        """
        All that stands before the ciphertext.

        @param counter: as L{pack_counter} packs it.
        @param length: of the ciphertext, at most L{MAX_DATA_CIPHERTEXT} bytes, as its sealer saw to.
        """
        if length != self._length:
            self._length = length
            self._constant = HEADER.pack(self._size + length, Kind.E2E_DATA) + self._header
        return self._constant + counter
