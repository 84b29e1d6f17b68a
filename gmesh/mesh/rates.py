# SPDX-License-Identifier: MIT
"""A token bucket on the caller's clock: how a rate with a burst is allowed, or not."""

from __future__ import annotations

__all__ = ["TokenBucket"]


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
