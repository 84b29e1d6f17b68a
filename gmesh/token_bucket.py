# SPDX-License-Identifier: MIT
"""
How a rate with a burst is allowed, or not: the token bucket, on a clock that the caller reads.

Tests: C{tests/test_token_bucket.py}.
"""

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
        if now > self._when:
            self._tokens = min(self._burst, self._tokens + (now - self._when) * self._rate)
            self._when = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def wait(self, now: float) -> float:
        """Seconds until one more is allowed; 0 if it is at C{now}."""
        tokens = self._tokens + max(0.0, now - self._when) * self._rate
        return 0.0 if tokens >= 1.0 else (1.0 - tokens) / self._rate

    def ready_at(self, now: float) -> float:
        """When one more is allowed: C{now} or later."""
        return now + self.wait(now)

    def full(self, now: float) -> bool:
        """True if forgetting this bucket would change nothing."""
        return self._tokens + (now - self._when) * self._rate >= self._burst


class Budget:
    """
    Allows C{burst} at once and C{rate} a second after that, in amounts, where reading a clock is expensive.

    The spender subtracts from C{left}, and only when that is used up asks for L{more}: so after a rest
    up to twice C{burst} may be spent at once.

    @ivar left: what may be spent without asking.
    """

    __slots__ = ("_burst", "_rate", "_when", "left")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = self.left = burst
        self._when = now

    def more(self, now: float) -> bool:
        """Add what came in since the last time. @return: True if something is left."""
        self.left = min(self._burst, self.left + (now - self._when) * self._rate)
        self._when = now
        return self.left >= 0
