# SPDX-License-Identifier: MIT
"""A token bucket on the caller's clock: how a rate with a burst is allowed, or not."""

from __future__ import annotations

__all__ = ["Budget", "TokenBucket"]


class TokenBucket:
    """
    Allows C{burst} at once and C{rate} a second after that.

    @param now: the time at which the bucket is full.
    """

    __slots__ = ("_burst", "_rate", "_tokens", "_when")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = self._tokens = burst
        self._when = now

    def take(self, now: float) -> bool:
        """True if one more is allowed at C{now}, which is then spent."""
        self._tokens = min(self._burst, self._tokens + (now - self._when) * self._rate)
        self._when = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def full(self, now: float) -> bool:
        """True if forgetting this bucket would change nothing."""
        return self._tokens + (now - self._when) * self._rate >= self._burst


class Budget:
    """
    Allows C{burst} at once and C{rate} a second after that, in amounts: for a path on which a clock is dear.

    Who spends subtracts from C{left}, and only when that is used up asks L{more}: so after a rest
    it may be twice C{burst} that is spent at once.

    @ivar left: what may be spent without asking.
    """

    __slots__ = ("_burst", "_rate", "_when", "left")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = self.left = burst
        self._when = now

    def more(self, now: float) -> bool:
        """What came in since the last time. @return: True if something is left."""
        self.left = min(self._burst, self.left + (now - self._when) * self._rate)
        self._when = now
        return self.left >= 0
