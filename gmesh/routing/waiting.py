# SPDX-License-Identifier: MIT
"""
Records that cannot be judged yet: those whose certificate is missing, those that came too fast.

Neither is verified, so each source may fill only its own bounded share and displace only its own.
Tests: C{tests/routing/test_database.py}.
"""

from __future__ import annotations

from collections.abc import Hashable

from gmesh.routing.limits import MAX_PARKED_PER_SOURCE, PARK_LIFE
from gmesh.routing.store import Key

__all__ = ["WaitingRecords"]


class _Share:
    __slots__ = ("deferred", "parked")

    def __init__(self) -> None:
        self.parked: dict[Key, tuple[int, int, bytes, float]] = {}
        self.deferred: dict[Key, tuple[int, bytes, float]] = {}


class WaitingRecords:
    """Per source: parked by certificate serial, or deferred until a time; newest of each key wins."""

    def __init__(self) -> None:
        self._shares: dict[Hashable, _Share] = {}

    def __len__(self) -> int:
        return sum(len(share.parked) + len(share.deferred) for share in self._shares.values())

    def park(self, source: Hashable, key: Key, serial: int, sequence: int, data: bytes, now: float) -> bool:
        """Keep until the certificate arrives; False if the source's share is full."""
        parked = self._shares.setdefault(source, _Share()).parked
        held = parked.get(key)
        if held is None and len(parked) >= MAX_PARKED_PER_SOURCE:
            return False
        if held is None or sequence >= held[1]:
            parked[key] = (serial, sequence, data, now + PARK_LIFE)
        return True

    def defer(self, source: Hashable, key: Key, sequence: int, data: bytes, until: float) -> bool:
        """Keep until the origin's rate allows it; False if the source's share is full."""
        deferred = self._shares.setdefault(source, _Share()).deferred
        held = deferred.get(key)
        if held is None and len(deferred) >= MAX_PARKED_PER_SOURCE:
            return False
        if held is None or sequence >= held[0]:
            deferred[key] = (sequence, data, until)
        return True

    def release(self, handle: bytes, serial: int) -> list[tuple[Hashable, bytes]]:
        """Take out what waited for this certificate."""
        found = []
        for source, share in self._shares.items():
            for key in [key for key, item in share.parked.items() if key[0] == handle and item[0] == serial]:
                found.append((source, share.parked.pop(key)[2]))
        return found

    def due(self, now: float) -> list[tuple[Hashable, bytes]]:
        """Take out what was deferred until now; forget what was parked for too long."""
        found = []
        for source, share in self._shares.items():
            for key in [key for key, item in share.deferred.items() if item[2] <= now]:
                found.append((source, share.deferred.pop(key)[1]))
            for key in [key for key, parked in share.parked.items() if parked[3] <= now]:
                del share.parked[key]
        return found

    def next_due(self) -> float | None:
        """When L{due} has something to give."""
        times = [item[2] for share in self._shares.values() for item in share.deferred.values()]
        return min(times, default=None)

    def drop_source(self, source: Hashable) -> None:
        """The source is gone, and what only it offered with it."""
        self._shares.pop(source, None)
