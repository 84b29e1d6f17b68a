# SPDX-License-Identifier: MIT
"""
The half of a stream that this node writes: what waits, what is under way, what is acknowledged. Pure.

Nothing is copied: what is cut for a frame are views of what the application wrote, let go of when the frame
is acknowledged.  A piece that is lost is sent again as it was.
Tests: C{tests/streams/test_halves.py}.
"""

from __future__ import annotations

from collections import deque

__all__ = ["Piece", "SendHalf"]

_IN_FLIGHT = 0
_LOST = 1
_DONE = 2


class Piece:
    """
    Bytes of a stream that left in one frame.

    @ivar offset: where they begin.
    @ivar views: the bytes.
    """

    __slots__ = ("_state", "offset", "size", "views")

    def __init__(self, offset: int, size: int, views: list[bytes | memoryview]) -> None:
        self.offset = offset
        self.size = size
        self.views = views
        self._state = _IN_FLIGHT


class SendHalf:
    """
    What one end writes.

    @ivar unsent: bytes written and not yet cut.
    @ivar offset: bytes cut.
    @ivar limit: how many bytes may be cut in all: what the peer allows.
    @ivar acknowledged: bytes that the peer has.
    @ivar ended: True once nothing more is written.
    """

    __slots__ = ("_dropped", "_lost", "_views", "acknowledged", "ended", "limit", "offset", "unsent")

    def __init__(self) -> None:
        self.unsent = 0
        self.offset = 0
        self.limit = 0
        self.acknowledged = 0
        self.ended = False
        self._dropped = False
        self._views: deque[bytes | memoryview] | None = None
        self._lost: deque[Piece] | None = None

    @property
    def unacknowledged(self) -> int:
        """Bytes cut that the peer may not have."""
        return self.offset - self.acknowledged

    @property
    def whole(self) -> bool:
        """True if all that was written is acknowledged."""
        return not self.unsent and self.offset == self.acknowledged

    @property
    def sendable(self) -> bool:
        """True if L{cut} has something to give."""
        return bool(self._lost) or (self.unsent > 0 and self.offset < self.limit)

    def write(self, data: bytes | memoryview) -> None:
        """Send this too."""
        if data:
            if self._views is None:
                self._views = deque()
            self._views.append(data)
            self.unsent += len(data)

    def cut(self, room: int, most: int) -> Piece | None:
        """
        Take out what is sent next.

        @param room: bytes of it that fit.
        @param most: bytes that a piece which was lost may have.
        @return: None if there is nothing, or no credit, or only a lost piece larger than C{most}.
        """
        while self._lost:
            piece = self._lost[0]
            if piece._state == _DONE:
                self._lost.popleft()
                continue
            if piece.size > most:
                return None
            piece._state = _IN_FLIGHT
            return self._lost.popleft()
        size = self.limit - self.offset
        if size > room:
            size = room
        if size > self.unsent:
            size = self.unsent
        if size <= 0 or self._views is None:
            return None
        views = self._views
        first = views[0]
        have = len(first)
        if have == size:
            taken: list[bytes | memoryview] = [views.popleft()]
        elif have > size:
            view = memoryview(first)
            taken = [view[:size]]
            views[0] = view[size:]
        else:
            taken = self._gather(views, size)
        piece = Piece(self.offset, size, taken)
        self.offset += size
        self.unsent -= size
        return piece

    def acknowledge(self, piece: Piece) -> int:
        """The peer has C{piece}. @return: how many bytes are thereby under way no more."""
        if piece._state == _DONE:
            return 0
        piece._state = _DONE
        piece.views = []
        self.acknowledged += piece.size
        return 0 if self._dropped else piece.size

    def lose(self, piece: Piece) -> None:
        """C{piece} is to be sent again."""
        if piece._state == _IN_FLIGHT:
            piece._state = _LOST
            if self._lost is None:
                self._lost = deque()
            self._lost.append(piece)

    def drop(self) -> int:
        """Nobody wants the rest. @return: how many bytes are thereby under way no more."""
        left = 0 if self._dropped else self.unacknowledged
        self._dropped = True
        self._views = self._lost = None
        self.unsent = 0
        return left

    def _gather(self, views: deque[bytes | memoryview], size: int) -> list[bytes | memoryview]:
        taken: list[bytes | memoryview] = []
        while size:
            first = views[0]
            have = len(first)
            if have > size:
                view = memoryview(first)
                taken.append(view[:size])
                views[0] = view[size:]
                break
            taken.append(views.popleft())
            size -= have
        return taken
