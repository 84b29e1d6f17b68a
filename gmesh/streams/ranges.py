# SPDX-License-Identifier: MIT
"""
Which segments of a peer have come, as runs of numbers. Pure.

Tests: C{tests/streams/test_ranges.py}.
"""

from __future__ import annotations

from bisect import bisect_right

from gmesh.wire.limits import MAX_SEEN_RUNS, MAX_SEEN_SPAN

__all__ = ["SeenNumbers"]

_NONE = -2  # no number follows it


class SeenNumbers:
    """
    The newest runs of numbers that came; the oldest are forgotten when there are too many.

    @ivar largest: the largest number that came. The next one may simply be put here.
    """

    __slots__ = ("_below", "_first", "largest")

    def __init__(self) -> None:
        self.largest = _NONE
        self._first = 0  # of the newest run, which ends with the largest
        self._below: list[tuple[int, int]] = []  # the others, ascending

    def __bool__(self) -> bool:
        """True if any came."""
        return self.largest != _NONE

    @property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """
        First and last number of each run, the newest first, as far down as a SEEN can say.

        A peer that forgot this node, and met it again, goes on with far higher numbers.
        """
        lowest = self.largest - MAX_SEEN_SPAN + 1
        runs = (self._first, self.largest), *reversed(self._below)
        if runs[-1][0] >= lowest:
            return runs
        return tuple((max(first, lowest), last) for first, last in runs if last >= lowest)

    def add(self, number: int) -> bool:
        """
        C{number} has come.

        @return: True if it was the next one; False if it opens or closes a gap, or came before.
        """
        largest = self.largest
        if number == largest + 1 or largest == _NONE:
            self._first = self._first if self else number
            self.largest = number
            return True
        if number > largest:
            self._below.append((self._first, largest))
            self._first = self.largest = number
            del self._below[: max(0, len(self._below) + 1 - MAX_SEEN_RUNS)]
        elif number == self._first - 1:
            self._first = number
            if self._below and self._below[-1][1] == number - 1:
                self._first = self._below.pop()[0]
        elif number < self._first:
            self._fill(number)
        return False

    def _fill(self, number: int) -> None:
        """It belongs among the runs below the newest."""
        runs = self._below
        at = bisect_right(runs, (number, number))
        while at < len(runs) and runs[at][0] <= number:
            at += 1
        first = last = number
        if at and runs[at - 1][1] >= number - 1:
            if runs[at - 1][1] >= number:
                return
            at -= 1
            first = runs.pop(at)[0]
        if at < len(runs) and runs[at][0] == number + 1:
            last = runs.pop(at)[1]
        runs.insert(at, (first, last))
        del runs[: max(0, len(runs) + 1 - MAX_SEEN_RUNS)]
