# SPDX-License-Identifier: MIT
"""
One timer for a deadline that may move: looked at when it comes, not at every change.

Tests: C{tests/endtoend/test_sessions.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from gmesh.endtoend.limits import TIMER_GRAIN

__all__ = ["DeadlineTimer"]


class DeadlineTimer:
    """
    Calls C{due} no later than the nearest deadline it was given; perhaps earlier, if that has moved on.

    @param due: looks at what is due, and gives the next deadline.
    @param arguments: what C{due} is called with.
    @ivar at: when it calls; infinite if it does not.
    """

    __slots__ = ("_arguments", "_call", "_clock", "_due", "at")

    def __init__(self, clock: IReactorTime, due: Callable[..., None], *arguments: object) -> None:
        self._clock = clock
        self._due = due
        self._arguments = arguments
        self._call: IDelayedCall | None = None
        self.at = inf

    def by(self, deadline: float, now: float) -> None:
        """Call at C{deadline} at the latest."""
        if deadline >= self.at:
            return
        delay = max(TIMER_GRAIN, deadline - now)
        if self._call is None:
            self.at = now + delay
            self._call = self._clock.callLater(delay, self._fire)
        elif now + delay < self.at:
            self.at = now + delay
            self._call.reset(delay)

    def cancel(self) -> None:
        """Call no more."""
        self.at = inf
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _fire(self) -> None:
        self.at, self._call = inf, None
        self._due(*self._arguments)
