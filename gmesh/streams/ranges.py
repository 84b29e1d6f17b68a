# SPDX-License-Identifier: MIT
"""
Which segments of a peer have come, as runs of numbers. Pure.

Tests: C{tests/streams/test_mux.py}.
"""

from __future__ import annotations

from gmesh.wire.limits import MAX_SEEN_RUNS

__all__ = ["SeenNumbers"]


class SeenNumbers:
    """
    The newest runs of numbers that came; the oldest are forgotten when there are too many.

    @ivar largest: the largest number that came, -1 before the first.
    """

    __slots__ = ("_runs", "largest")

    def __init__(self) -> None:
        self.largest = -1
        self._runs: list[list[int]] = []

    @property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """First and last number of each run, the newest first."""
        return tuple((first, last) for first, last in reversed(self._runs))

    def add(self, number: int) -> bool:
        """
        C{number} has come.

        @return: True if it was the next one; False if it opens or closes a gap, or came before.
        """
        runs = self._runs
        if number == self.largest + 1 and runs:
            runs[-1][1] = self.largest = number
            return True
        first = not runs
        self._insert(number)
        self.largest = max(self.largest, number)
        return first

    def _insert(self, number: int) -> None:
        runs = self._runs
        at = len(runs)
        while at and runs[at - 1][0] > number:
            at -= 1
        # the run before position at begins at or below the number, the one at it above
        below = runs[at - 1] if at else None
        above = runs[at] if at < len(runs) else None
        if below is not None and number <= below[1]:
            return
        joins_below = below is not None and below[1] == number - 1
        joins_above = above is not None and above[0] == number + 1
        if joins_below and joins_above:
            assert below is not None and above is not None
            below[1] = above[1]
            del runs[at]
        elif joins_below and below is not None:
            below[1] = number
        elif joins_above and above is not None:
            above[0] = number
        else:
            runs.insert(at, [number, number])
            if len(runs) > MAX_SEEN_RUNS:
                del runs[0]
