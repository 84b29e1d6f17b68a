# SPDX-License-Identifier: MIT
"""How many handshakes are looked at, before any exchange of keys is computed for them."""

from __future__ import annotations

from gmesh.endtoend import limits
from gmesh.token_bucket import TokenBucket

__all__ = ["FloodGate"]


class FloodGate:
    """
    Token buckets: one for each ingress link, one for each source claimed over it.

    A claim costs nothing, so a claimed source is limited for the link that makes the claim only:
    no neighbour can use up what a node is allowed over another way.
    """

    def __init__(self) -> None:
        self._buckets: dict[tuple[bytes, bytes], TokenBucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def admits(self, link: bytes, source: bytes, now: float) -> bool:
        """May a handshake that came over C{link}, from C{source} as it says, be looked at?"""
        by_source = self._bucket((link, source), limits.INIT_SOURCE_RATE, limits.INIT_SOURCE_BURST, now)
        if not by_source.take(now):
            return False
        return self._bucket((link, b""), limits.INIT_LINK_RATE, limits.INIT_LINK_BURST, now).take(now)

    def _bucket(self, key: tuple[bytes, bytes], rate: float, burst: float, now: float) -> TokenBucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= limits.MAX_HANDSHAKE_FLOOD_KEYS:
                self._prune(now)
            bucket = self._buckets[key] = TokenBucket(rate, burst, now)
        return bucket

    def _prune(self, now: float) -> None:
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if not bucket.full(now)}
        while len(self._buckets) >= limits.MAX_HANDSHAKE_FLOOD_KEYS:
            del self._buckets[next(iter(self._buckets))]
