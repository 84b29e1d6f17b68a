# SPDX-License-Identifier: MIT
"""
The half of a stream that this node reads: put into order, and held to what was allowed. Pure.

Tests: C{tests/streams/test_halves.py}.
"""

from __future__ import annotations

from bisect import bisect_left

from gmesh.errors import FrameRefused

__all__ = ["ReceiveHalf"]


class ReceiveHalf:
    """
    What the other end writes.

    @ivar next: how many bytes have come in order.
    @ivar size: how many there will be, None while that is not known.
    @ivar simple: True while nothing is held and no end is known: what is next only counts.
    @ivar held: pieces that came before what belongs in front of them.
    """

    __slots__ = ("_highest", "_offsets", "_pieces", "next", "simple", "size")

    def __init__(self) -> None:
        self.next = 0
        self.size: int | None = None
        self.simple = True
        self._highest = 0
        self._offsets: list[int] | None = None
        self._pieces: dict[int, bytes] | None = None

    @property
    def held(self) -> int:
        """Pieces that wait for what belongs in front of them."""
        return len(self._offsets) if self._offsets else 0

    @property
    def complete(self) -> bool:
        """True once all has come."""
        return self.next == self.size

    def take(self, offset: int, data: bytes, limit: int, may_hold: bool = True) -> list[bytes] | None:
        """
        A piece has come.

        @param limit: so far the other end may write.
        @param may_hold: whether there is room for a piece that comes too early.
        @return: what can be read now, in order; None if the piece was too early and is not held.
        @raise FrameRefused: C{overrun}, if the other end writes more than it may, or behind its own end.
        """
        end = offset + len(data)
        if end > limit:
            raise FrameRefused("overrun", f"the far end wrote {end} bytes and may write {limit}")
        if self.size is not None and end > self.size:
            raise FrameRefused("overrun", f"the far end wrote {end} bytes after it ended at {self.size}")
        if end <= self.next:
            return []
        if offset > self.next:
            if not may_hold:
                return None
            self._hold(offset, data)
            self._highest = max(self._highest, end)
            return []
        ready = [data[self.next - offset :]]
        self.next = end
        if self._offsets:
            self._take_held(ready)
        return ready

    def end(self, size: int, limit: int) -> None:
        """
        The other end writes no more.

        @param size: of all that it wrote.
        @raise FrameRefused: C{overrun}, if it wrote more, said otherwise, or was not allowed so much.
        """
        if (
            size > limit
            or size < max(self._highest, self.next)
            or (self.size is not None and self.size != size)
        ):
            raise FrameRefused("overrun", f"the far end ends at {size}, which is not what it wrote")
        self.size = size
        self.simple = False

    def drop(self) -> None:
        """Nobody reads what is held."""
        self._offsets = self._pieces = None

    def _hold(self, offset: int, data: bytes) -> None:
        """Keep what no other piece holds already, so that no more is held than was allowed."""
        offsets, pieces = self._offsets, self._pieces
        if offsets is None or pieces is None:
            offsets, pieces = self._offsets, self._pieces = [], {}
            self.simple = False
        at = bisect_left(offsets, offset)
        if at:
            before = offsets[at - 1]
            covered = before + len(pieces[before]) - offset
            if covered > 0:
                data = data[covered:]
                offset += covered
        while data and at < len(offsets):
            after = offsets[at]
            if after >= offset + len(data):
                break
            if after + len(pieces[after]) > offset + len(data):
                data = data[: after - offset]
                break
            del pieces[offsets.pop(at)]
        if data:
            offsets.insert(at, offset)
            pieces[offset] = data

    def _take_held(self, ready: list[bytes]) -> None:
        offsets, pieces = self._offsets, self._pieces
        while offsets and pieces and offsets[0] <= self.next:
            offset = offsets.pop(0)
            data = pieces.pop(offset)
            end = offset + len(data)
            if end > self.next:
                ready.append(data[self.next - offset :])
                self.next = end
        if not offsets:
            self._offsets = self._pieces = None
            self.simple = self.size is None
