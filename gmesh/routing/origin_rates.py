# SPDX-License-Identifier: MIT
"""
How many records one origin may have judged over all its fragments, at every node that hears of them.

Asked before a signature is verified and spent only by what the origin has signed: nobody else can use it up.
Tests: C{tests/routing/test_origin_rates.py}.
"""

from __future__ import annotations

from gmesh.routing.limits import ANCHOR_RECORDS, MAX_NODES, NODE_RECORDS
from gmesh.token_bucket import TokenBucket

__all__ = ["OriginRates"]


class OriginRates:
    """The long-term rate of each origin; one that was quiet is forgotten."""

    def __init__(self) -> None:
        self._buckets: dict[bytes, TokenBucket] = {}

    def has(self, handle: bytes, now: float) -> bool:
        """Whether the next record of this origin may be judged."""
        bucket = self._buckets.get(handle)
        return bucket is None or bucket.has(now)

    def ready_at(self, handle: bytes, now: float) -> float:
        """When the next record of this origin may be judged."""
        bucket = self._buckets.get(handle)
        return now if bucket is None else bucket.ready_at(now)

    def spend(self, handle: bytes, anchor: bool, now: float) -> None:
        """One more record of its own making was verified."""
        bucket = self._buckets.get(handle)
        if bucket is None:
            if len(self._buckets) >= 2 * MAX_NODES:
                self._buckets = {key: held for key, held in self._buckets.items() if not held.full(now)}
            bucket = self._buckets[handle] = TokenBucket(*(ANCHOR_RECORDS if anchor else NODE_RECORDS), now)
        bucket.take(now)
