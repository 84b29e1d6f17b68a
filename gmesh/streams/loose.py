# SPDX-License-Identifier: MIT
"""
Frames that belong to no stream any more: resets and refusals, GOAWAY, PROBE. Pure.

Tests: C{tests/streams/test_hostile_peer.py}.
"""

from __future__ import annotations

from collections import deque

from gmesh.streams import limits
from gmesh.streams.state import Frames
from gmesh.wire.stream_messages import PROBE

__all__ = ["LooseFrames"]


class LooseFrames:
    """
    Such frames on their way to one peer, sent until acknowledged; so many at most.

    @ivar under_way: how many there are.
    """

    __slots__ = ("_frames", "under_way")

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque()
        self.under_way = 0

    @property
    def sendable(self) -> bool:
        """True if L{fill} has something to give."""
        return bool(self._frames)

    def add(self, frame: bytes) -> bool:
        """Send it. @return: False if there are too many already."""
        if self.under_way >= limits.MAX_LOOSE:
            return False
        self.under_way += 1
        self._frames.append(frame)
        return True

    def probe(self) -> None:
        """Send something to acknowledge, unless something waits anyway."""
        if not self._frames:
            self.under_way += 1
            self._frames.append(PROBE)

    def fill(self, pieces: Frames, room: int, most: int) -> tuple[int, int, list[bytes]]:
        """As L{StreamState.fill<gmesh.streams.state.StreamState.fill>}."""
        taken: list[bytes] = []
        size = 0
        while self._frames and size + len(self._frames[0]) <= room:
            frame = self._frames.popleft()
            taken.append(frame)
            size += len(frame)
        pieces += taken
        return size, 0, taken

    def acknowledged(self, flags: int, frames: list[bytes]) -> int:
        """The peer has these. @return: no bytes of any stream."""
        self.under_way -= len(frames)
        return 0

    def lost(self, flags: int, frames: list[bytes]) -> None:
        """Those that still say something are sent again, and belong to what carries them then."""
        again = [frame for frame in frames if frame != PROBE]
        self.under_way -= len(frames) - len(again)
        self._frames.extend(again)
        frames.clear()

    def sent_some(self) -> None:
        """Nobody waits for room."""

    def clear(self) -> None:
        """Nobody wants to hear them."""
        self._frames.clear()
        self.under_way = 0
