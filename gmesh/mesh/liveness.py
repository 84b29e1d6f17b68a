# SPDX-License-Identifier: MIT
"""
Whether a neighbour still answers: when to ask, to doubt, to give up; and how far away it is.

Sans-IO: events and C{now} in, a verdict out; L{Liveness.due} says when to ask for the next one.
"""

from __future__ import annotations

from enum import Enum
from random import Random

from gmesh.mesh.limits import RTT_REFRESH, RTT_WEIGHT, Liveliness

__all__ = ["Liveness", "Verdict"]


class Verdict(Enum):
    """What to do now."""

    FINE = "fine"
    PING = "ping"
    SUSPECT = "suspect"
    DEAD = "dead"


class Liveness:
    """
    One neighbour's signs of life.

    @ivar rtt: smoothed round trip in seconds, or None.
    @ivar suspect: a PONG is missing; the next sign of life ends it.
    """

    def __init__(self, profile: Liveliness, random: Random, now: float) -> None:
        self._profile = profile
        self._random = random
        self._heard = now
        self._asked: float | None = None
        self._give_up: float | None = None
        self._sampled = now - RTT_REFRESH
        self._next = now
        self._interval = 0.0
        self.rtt: float | None = None
        self.suspect = False

    def heard(self, now: float) -> None:
        """Any frame counts as life."""
        self._heard = now
        self._asked = self._give_up = None
        self.suspect = False

    def asked(self, now: float) -> None:
        """A PING was sent."""
        if self._asked is None:
            self._asked = now
        profile = self._profile
        self._interval = profile.ping_after * (1 + self._random.uniform(-profile.jitter, profile.jitter))
        self._next = now + self._interval

    def answered(self, sent: float, now: float) -> None:
        """The PONG to the PING sent at C{sent} came."""
        sample = max(0.0, now - sent)
        self.rtt = sample if self.rtt is None else self.rtt + RTT_WEIGHT * (sample - self.rtt)
        self._sampled = now

    def probe(self, now: float) -> None:
        """Somebody says this link is dead: it has a PONG's time to disprove it. The caller sends a PING."""
        self._give_up = now + self._profile.pong_within

    def verdict(self, now: float) -> Verdict:
        """What is due at C{now}."""
        profile = self._profile
        if now >= self._heard + profile.dead_after or (self._give_up is not None and now >= self._give_up):
            return Verdict.DEAD
        if self._asked is not None and not self.suspect and now >= self._asked + profile.pong_within:
            self.suspect = True
            return Verdict.SUSPECT
        return Verdict.PING if now >= self._ping_at() else Verdict.FINE

    def due(self) -> float:
        """The time at which L{verdict} has something new to say, if nothing happens before."""
        due = min(self._heard + self._profile.dead_after, self._ping_at())
        if self._give_up is not None:
            due = min(due, self._give_up)
        if self._asked is not None and not self.suspect:
            due = min(due, self._asked + self._profile.pong_within)
        return due

    def _ping_at(self) -> float:
        return max(self._next, min(self._heard + self._interval, self._sampled + RTT_REFRESH))
