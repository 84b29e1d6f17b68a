# SPDX-License-Identifier: MIT
"""
How a rate with a burst is allowed, or not: the token bucket, on a clock that the caller reads.

Tests: C{tests/test_token_bucket.py}.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Budget", "ClaimGate", "Rate", "TokenBucket"]


class Rate(NamedTuple):
    """So many a second, and so many at once."""

    rate: float
    burst: float


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

    def take(self, now: float, amount: float = 1.0) -> bool:
        """True if so many more are allowed at C{now}, which are then spent."""
        tokens = self._tokens
        if now > self._when:
            tokens = self._tokens = min(self._burst, tokens + (now - self._when) * self._rate)
            self._when = now
        if tokens < amount:
            return False
        self._tokens = tokens - amount
        return True

    def has(self, now: float) -> bool:
        """True if one more is allowed at C{now}."""
        if now > self._when:
            self._tokens = min(self._burst, self._tokens + (now - self._when) * self._rate)
            self._when = now
        return self._tokens >= 1.0

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

    def full(self, now: float) -> bool:
        """True if forgetting this budget would change nothing."""
        return self.left + (now - self._when) * self._rate >= self._burst


class ClaimGate:
    """
    What one neighbour may claim: so much altogether, and less about each name.

    Each new name spends some of what is allowed altogether, and is forgotten when its bucket is full
    again: so the names that are remembered are bounded by the rates.

    @param every: for all names together.
    @param each: for one name.
    """

    __slots__ = ("_all", "_each", "_most", "_names")

    def __init__(self, every: Rate, each: Rate, now: float) -> None:
        self._all = TokenBucket(*every, now)
        self._each = each
        self._most = 2 * int(every.burst + every.rate * each.burst / each.rate)
        self._names: dict[bytes, TokenBucket] = {}

    def __len__(self) -> int:
        return len(self._names)

    def admits(self, name: bytes, now: float) -> bool:
        """May one more claim about C{name} be looked at?  If so, it is spent."""
        if not self._all.has(now):
            return False
        bucket = self._names.get(name)
        if bucket is None:
            if len(self._names) >= self._most:
                self._names = {key: held for key, held in self._names.items() if not held.full(now)}
            bucket = self._names[name] = TokenBucket(*self._each, now)
        return bucket.take(now) and self._all.take(now)

    def full(self, now: float) -> bool:
        """True if forgetting this gate would change nothing."""
        return self._all.full(now) and all(bucket.full(now) for bucket in self._names.values())
