# SPDX-License-Identifier: MIT
"""
How much may be under way to one peer. Pure.

Losses are rare and every hop queues before it drops, so the window grows until the round trip
says that queues fill, and shrinks when a relay says that it dropped: once a round trip, for what else
is dropped within it left before the window shrank (RFC 9002, section 7.3.2).  What is far more than a
round trip needs is given back as soon as queues fill.
"""

from __future__ import annotations

from gmesh.endtoend import limits

__all__ = ["Pace"]


class Pace:
    """
    How fast a peer may be sent to.

    @param most: the largest window.
    @ivar window: bytes that may be unacknowledged.
    @ivar rto: when an unanswered message is sent again, seconds.
    """

    __slots__ = ("_least", "_most", "_recovered", "_smooth", "_threshold", "_variation", "rto", "window")

    def __init__(self, most: int = limits.WINDOW_MOST) -> None:
        self.window = float(limits.WINDOW_FIRST)
        self.rto = limits.FIRST_RTO
        self._threshold = self._most = float(most)
        self._smooth: float | None = None
        self._variation = 0.0
        self._least = 0.0
        self._recovered = 0.0

    @property
    def slow(self) -> bool:
        """True if the round trip is long: large frames would stand before everything else."""
        return self._smooth is not None and self._smooth > limits.SLOW_PATH

    def answered(self, size: int, rtt: float | None) -> None:
        """A message of C{size} bytes was answered. @param rtt: unless it was sent more than once."""
        if rtt is not None:
            if self._smooth is None:
                self._smooth, self._variation, self._least = rtt, rtt / 2, rtt
            else:
                self._variation += (abs(self._smooth - rtt) - self._variation) / 4
                self._smooth += (rtt - self._smooth) / 8
                self._least = min(self._least, rtt)
            self.rto = min(limits.MAX_RTO, max(limits.MIN_RTO, self._smooth + 4 * self._variation))
        if self._smooth is not None and max(self._smooth, rtt or 0.0) > 2 * self._least + limits.QUEUEING:
            self.window = max(min(self.window, limits.WINDOW_LONG), self.window - size / 2)
            return
        slow_start = self.window < self._threshold
        grown = self.window + (size if slow_start else size * limits.FRAGMENT_SIZE / self.window)
        self.window = min(grown, self._most)

    def dropped(self, now: float) -> None:
        """A relay dropped something of ours."""
        if now < self._recovered:
            return
        self._recovered = now + (self.rto if self._smooth is None else self._smooth)
        self.window = self._threshold = max(self.window * limits.WINDOW_SHRINK, float(limits.WINDOW_LEAST))

    def timed_out(self) -> None:
        """Nobody answered in time."""
        self._threshold = max(self.window * limits.WINDOW_SHRINK, float(limits.WINDOW_LEAST))
        self.window = float(limits.WINDOW_LEAST)
