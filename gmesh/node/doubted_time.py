# SPDX-License-Identifier: MIT
"""
A time that the authority signed and this host does not believe yet.

Tests: C{tests/node/test_doubted_time.py}.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["MAX_TIME_STEP", "TIME_STEP_SETTLE", "DoubtedTime"]

MAX_TIME_STEP = 3600.0
"""Seconds by which a status may move the time of a host that has one: it is signed twice an hour."""
TIME_STEP_SETTLE = 900.0
"""Seconds after which a larger step counts, if no status took it back."""


class DoubtedTime:
    """
    One such time.

    @param time: Unix seconds.
    @param seconds: monotonic time.
    """

    def __init__(self, time: float, seconds: Callable[[], float]) -> None:
        self._time = time
        self._seconds = seconds
        self._since = seconds()

    def settled(self, own: float) -> float:
        """What it is now: C{own}, the time without this one, until it has stood for long enough."""
        passed = self._seconds() - self._since
        return own if passed < TIME_STEP_SETTLE else max(own, self._time + passed)
