# SPDX-License-Identifier: MIT
"""
What a stream is on the socket of the local API: C{gmesh-stream}, after C{101 Switching Protocols}.

A unix socket cannot tell an end from an abort, so each is said in a frame, C{u8 kind | u24 length | body},
big-endian.  DATA is 0 to 64 KiB of the stream; FIN says that no more follows; STOP, that no more is read,
with a code u16; RESET ends both halves at once, with a code u16 and at most 200 bytes of UTF-8.
Back-pressure is that of the socket.

How it ends: the daemon is who closes the socket, after RESET, which is always its last frame.  RESET(done)
says that the stream ended well: both halves are over and all that the program wrote was acknowledged; FIN
alone does not say that, since the daemon may die after it.  One that closes without RESET has broken, and
a program that closes first has aborted.  To close both halves at once is FIN and STOP(done).

A program that accepts hears C{100 Continue} as soon as it waits for a stream.  That and C{101} carry who this
node is, C{Gmesh-Host}, in the form of C{Gmesh-Peer}.

No input, no output: bytes go in and come out.  Tests: C{tests/client/test_stream_frames.py}.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from gmesh.errors import FrameRefused, StreamCode

__all__ = [
    "FIN",
    "HEAD",
    "MAX_DATA",
    "MAX_REASON",
    "FrameDecoder",
    "FrameKind",
    "Signal",
    "data_head",
    "reset_frame",
    "stop_frame",
]

#: Bytes before each body.
HEAD = 4
#: The largest body of DATA: what Twisted reads from a socket at once.
MAX_DATA = 64 * 1024
#: The longest text of a RESET in bytes, as on the wire.
MAX_REASON = 200

_HEAD = struct.Struct(">I")
_CODE = struct.Struct(">H")


class FrameKind(IntEnum):
    """The first byte of a frame."""

    DATA = 0
    FIN = 1
    STOP = 2
    RESET = 3


#: Smallest and largest body.
_SIZES = {
    FrameKind.DATA: (0, MAX_DATA),
    FrameKind.FIN: (0, 0),
    FrameKind.STOP: (_CODE.size, _CODE.size),
    FrameKind.RESET: (_CODE.size, _CODE.size + MAX_REASON),
}


@dataclass(frozen=True, slots=True)
class Signal:
    """
    A frame that is not DATA.

    @ivar kind: FIN, STOP or RESET.
    @ivar code: why, of STOP and RESET.
    @ivar detail: a line for people, of RESET.
    """

    kind: FrameKind
    code: StreamCode = StreamCode.DONE
    detail: str = ""


def _frame(kind: FrameKind, body: bytes = b"") -> bytes:
    return _HEAD.pack(kind << 24 | len(body)) + body


def data_head(size: int) -> bytes:
    """
    What goes before C{size} bytes of the stream.

    @raise ValueError: if C{size} is not from 0 to L{MAX_DATA}.
    """
    if not 0 <= size <= MAX_DATA:
        raise ValueError(f"a DATA has 0 to {MAX_DATA} bytes, not {size}")
    return _HEAD.pack(FrameKind.DATA << 24 | size)


#: No more follows.
FIN = _frame(FrameKind.FIN)


def stop_frame(code: StreamCode = StreamCode.DONE) -> bytes:
    """No more is read."""
    return _frame(FrameKind.STOP, _CODE.pack(code))


def reset_frame(code: StreamCode, detail: str = "") -> bytes:
    """Both halves end now. @param detail: cut to L{MAX_REASON} bytes, between two characters."""
    text = detail.encode("utf-8", "replace")[:MAX_REASON].decode("utf-8", "ignore").encode()
    return _frame(FrameKind.RESET, _CODE.pack(code) + text)


class FrameDecoder:
    """
    Cuts what a socket reads into L{Signal}s and DATA, which is handed on before its frame is whole.

    It holds at most the 206 bytes of a RESET.
    """

    __slots__ = ("_data", "_held", "finished", "reset")

    def __init__(self) -> None:
        self._held = b""
        self._data = 0  # bytes of the current DATA that have not come yet
        #: FIN has come.
        self.finished = False
        #: RESET has come.
        self.reset = False

    def feed(self, received: bytes) -> list[bytes | Signal]:
        """
        What C{received} adds: signals, and what lies between them of the stream, if anything, in one piece.

        @raise FrameRefused: if it breaks the protocol; nothing may be fed any more.
        """
        return [each if isinstance(each, Signal) else b"".join(each) for each in self.cut(received)]

    def cut(self, received: bytes) -> list[list[memoryview] | Signal]:
        """
        The same, with what lies between signals as views of C{received}.

        @raise FrameRefused: as of L{feed}.
        """
        found: list[list[memoryview] | Signal] = []
        pieces: list[memoryview] = []
        buffer, self._held = self._held + received, b""
        view = memoryview(buffer)
        at, end = 0, len(buffer)
        while at < end:
            if self._data:
                stop = min(end, at + self._data)
                self._data -= stop - at
                pieces.append(view[at:stop])
                at = stop
                continue
            if end - at < HEAD:
                break
            (head,) = _HEAD.unpack_from(buffer, at)
            if head <= MAX_DATA and not (self.finished or self.reset):  # a DATA, as nearly always
                at, self._data = at + HEAD, head
                continue
            kind, size = self._allowed(head >> 24, head & 0xFFFFFF)
            if kind is FrameKind.DATA:
                at, self._data = at + HEAD, size
                continue
            if end - at < HEAD + size:
                break
            if pieces:
                found.append(pieces)
                pieces = []
            found.append(self._signal(kind, buffer[at + HEAD : at + HEAD + size]))
            at += HEAD + size
        if pieces:
            found.append(pieces)
        self._held = buffer[at:]
        return found

    def _allowed(self, number: int, size: int) -> tuple[FrameKind, int]:
        """Judge a head. @raise FrameRefused: if no such frame may come here."""
        if self.reset:
            raise _refused("nothing may follow a RESET")
        if number not in FrameKind._value2member_map_:
            raise _refused(f"there is no frame of kind {number}")
        kind = FrameKind(number)
        low, high = _SIZES[kind]
        if not low <= size <= high:
            raise _refused(f"a {kind.name} has {low} to {high} bytes, not {size}")
        if self.finished and kind in (FrameKind.DATA, FrameKind.FIN):
            raise _refused(f"no {kind.name} may follow a FIN")
        return kind, size

    def _signal(self, kind: FrameKind, body: bytes) -> Signal:
        if kind is FrameKind.FIN:
            self.finished = True
            return Signal(kind)
        (number,) = _CODE.unpack_from(body)
        self.reset = kind is FrameKind.RESET
        return Signal(kind, StreamCode.read(number), body[_CODE.size :].decode("utf-8", "replace"))


def _refused(why: str) -> FrameRefused:
    return FrameRefused("malformed", f"gmesh-stream: {why}")
