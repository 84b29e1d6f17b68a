# SPDX-License-Identifier: MIT
"""
How late the reactor runs what is due: one timer a second, and what it finds in a few buckets.

Tests: C{tests/node/test_metrics.py}.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from gmesh.node.limits import LAG_BUCKETS, LAG_PERIOD

__all__ = ["ReactorLag"]


class ReactorLag(Service):
    """
    A histogram of how much later than asked for the timer ran.

    @ivar count: how often it ran.
    @ivar total: seconds it was late, together.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._counts = [0] * (len(LAG_BUCKETS) + 1)
        self._due = 0.0
        self._timer: IDelayedCall | None = None
        self.count = 0
        self.total = 0.0

    def startService(self) -> None:
        """Begin to look."""
        super().startService()
        self._wait()

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """For each bucket its limit in seconds, and how often the timer was at most so late."""
        return zip(LAG_BUCKETS, accumulate(self._counts), strict=False)

    def _wait(self) -> None:
        self._due = self._clock.seconds() + LAG_PERIOD
        self._timer = self._clock.callLater(LAG_PERIOD, self._look)

    def _look(self) -> None:
        late = max(0.0, self._clock.seconds() - self._due)
        self._counts[bisect_left(LAG_BUCKETS, late)] += 1
        self.count += 1
        self.total += late
        self._wait()
