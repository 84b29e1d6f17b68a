# SPDX-License-Identifier: MIT
"""
What is counted of streams, by service: for metrics.

Names of services come from applications of this node, so there are few; were there many, those beyond
L{MAX_LABELS<gmesh.streams.limits.MAX_LABELS>} are counted together.
Tests: C{tests/node/test_metrics.py}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from gmesh.streams import limits

if TYPE_CHECKING:
    from gmesh.streams.stream import Stream

__all__ = ["OTHERS", "Tally"]

OTHERS = "other"
"""The label of services beyond the first so many."""


class Tally:
    """
    Streams that have ended.

    @ivar outcomes: how many, by service and C{done} or why they broke.
    """

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self._bytes: Counter[tuple[str, str]] = Counter()
        self._labels: set[str] = set()

    def ended(self, stream: Stream, reason: str) -> None:
        """C{stream} has ended."""
        label = self.label(stream.service)
        self.outcomes[label, reason] += 1
        self._add(self._bytes, label, stream)

    def label(self, service: str) -> str:
        """What C{service} is counted as."""
        if service not in self._labels:
            if len(self._labels) >= limits.MAX_LABELS:
                return OTHERS
            self._labels.add(service)
        return service

    def bytes(self, streams: Iterable[Stream]) -> Counter[tuple[str, str]]:
        """Bytes by service and C{sent} or C{received}, those of open C{streams} too."""
        counted = self._bytes.copy()
        for stream in streams:
            self._add(counted, self.label(stream.service), stream)
        return counted

    def _add(self, counted: Counter[tuple[str, str]], label: str, stream: Stream) -> None:
        counted[label, "sent"] += stream.sent
        counted[label, "received"] += stream.received
