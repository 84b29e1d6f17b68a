# SPDX-License-Identifier: MIT
"""
What a link costs: hops dominate, the round trip only separates paths that are nearly equal.

Hysteresis keeps a cost in place until its round trip has been elsewhere for a while, so load
on a path does not push traffic to and fro.
Tests: C{tests/routing/test_origin.py}.
"""

from __future__ import annotations

from gmesh.routing.limits import (
    BASE_COST,
    HYSTERESIS,
    HYSTERESIS_HOLD,
    MAX_COST,
    RTT_MAX,
    RTT_MIN,
    RTT_PENALTY,
    RTT_STEPS,
    RTT_WEIGHT,
    SUSPECT_FACTOR,
)

__all__ = ["LinkMetric", "rtt_cost", "smoothed"]


def smoothed(previous: float | None, sample: float) -> float:
    """The moving average of round trips with the weight gmesh uses."""
    return sample if previous is None else previous + (sample - previous) * RTT_WEIGHT


def rtt_cost(rtt: float | None) -> int:
    """Base cost plus 0..150 in 16 steps between 10 and 120 ms."""
    if rtt is None or rtt <= RTT_MIN:
        return BASE_COST
    share = min(1.0, (rtt - RTT_MIN) / (RTT_MAX - RTT_MIN))
    return BASE_COST + round(round(share * RTT_STEPS) * RTT_PENALTY / RTT_STEPS)


class LinkMetric:
    """
    The advertised cost of one link.

    @param penalty: set by the operator, for links of little bandwidth.
    """

    __slots__ = ("_moved", "_rtt", "penalty", "suspect")

    def __init__(self, rtt: float | None = None, penalty: int = 0) -> None:
        self.penalty = penalty
        self.suspect = False
        self._rtt = rtt
        self._moved: float | None = None

    @property
    def cost(self) -> int:
        """What to advertise now."""
        cost = rtt_cost(self._rtt) + self.penalty
        return min(cost * SUSPECT_FACTOR if self.suspect else cost, MAX_COST)

    def update(self, rtt: float, now: float) -> bool:
        """
        Take the smoothed round trip of this moment.

        @return: True if L{cost} changed.
        """
        before = self.cost
        if self._rtt is None:
            self._rtt = rtt
        elif abs(rtt - self._rtt) <= self._rtt * HYSTERESIS:
            self._moved = None
        elif self._moved is None:
            self._moved = now
        elif now - self._moved >= HYSTERESIS_HOLD:
            self._rtt = rtt
            self._moved = None
        return self.cost != before
