# SPDX-License-Identifier: MIT
"""
A growing interval between repeats, on the caller's clock.

Tests: C{tests/routing/test_origin.py}.
"""

from __future__ import annotations

__all__ = ["Spacing"]


class Spacing:
    """
    An interval between repeats: the same a few times, then twice as long each time, until a quiet spell.

    @param delay: from a change to the first action.
    @param first: interval after the first action.
    @param even: how many intervals are like the first.
    @param most: the longest interval.
    @param quiet: after this long without an action the interval starts over.
    """

    __slots__ = ("_acts", "_delay", "_even", "_first", "_interval", "_last", "_most", "_quiet")

    def __init__(self, delay: float, first: float, even: int, most: float, quiet: float) -> None:
        self._delay = delay
        self._first = first
        self._even = even
        self._acts = 0
        self._most = most
        self._quiet = quiet
        self._interval = first
        self._last: float | None = None

    def ready_at(self, changed: float) -> float:
        """When to act on a change made at C{changed}."""
        if self._last is None or changed - self._last >= self._quiet:
            return changed + self._delay
        return max(changed + self._delay, self._last + self._interval)

    def acted(self, now: float) -> None:
        """An action happened."""
        if self._last is None or now - self._last >= self._quiet:
            self._interval = self._first
            self._acts = 1
        elif self._acts < self._even:
            self._acts += 1
        else:
            self._interval = min(self._interval * 2, self._most)
        self._last = now
