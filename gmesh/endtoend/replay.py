# SPDX-License-Identifier: MIT
"""Which counters were seen: a window of bits that only an authentic frame may move."""

from __future__ import annotations

from gmesh.endtoend.limits import REPLAY_WINDOW

__all__ = ["ReplayWindow"]


class ReplayWindow:
    """
    The newest C{width} numbers below the highest one seen, one bit each (the idea of RFC 6479).

    Ask L{fresh}, decrypt, and only then L{mark}: a forged number must not move the window.

    @ivar highest: the highest number marked, -1 before the first.
    """

    __slots__ = ("_bits", "_mask", "_run", "highest", "width")

    def __init__(self, width: int = REPLAY_WINDOW) -> None:
        self.width = width
        self.highest = -1
        self._bits = 0
        self._run = 0  # marks in order that are not in the bits yet: most come so
        self._mask = (1 << width) - 1

    def fresh(self, number: int) -> bool:
        """True if C{number} lies in or ahead of the window and was not marked."""
        behind = self.highest - number
        if behind < 0:
            return True
        self._catch_up()
        return behind < self.width and not self._bits >> behind & 1

    def next(self, number: int) -> bool:
        """Mark C{number} if it is the one above the highest. @return: whether it is."""
        if number != self.highest + 1:
            return False
        self.highest = number
        self._run += 1
        return True

    def marked(self, number: int) -> bool:
        """True if C{number} lies in the window and was marked."""
        return 0 <= self.highest - number < self.width and not self.fresh(number)

    def mark(self, number: int) -> None:
        """Remember C{number}; one above the highest moves the window, one below the window is nothing."""
        if self.next(number):
            return
        behind = self.highest - number
        self._catch_up()
        if behind >= self.width:
            return
        if behind >= 0:
            self._bits |= 1 << behind
        elif -behind < self.width:
            self._bits = (self._bits << -behind | 1) & self._mask
            self.highest = number
        else:
            self._bits = 1
            self.highest = number

    def _catch_up(self) -> None:
        run = min(self._run, self.width)
        self._bits = (self._bits << run | (1 << run) - 1) & self._mask
        self._run = 0
