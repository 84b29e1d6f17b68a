# SPDX-License-Identifier: MIT
"""
What is counted of streams, by service: for metrics.

A service is counted by its name if a program of this node listens to it or dials it; what peers invent,
and names beyond L{MAX_LABELS<gmesh.streams.limits.MAX_LABELS>}, are counted together.
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
"""The label of services that nobody here named, and of those beyond the first so many."""


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

    def name(self, service: str) -> None:
        """A program of this node listens to C{service}, or dials it."""
        if len(self._labels) < limits.MAX_LABELS:
            self._labels.add(service)

    def label(self, service: str) -> str:
        """What C{service} is counted as."""
        return service if service in self._labels else OTHERS

    def bytes(self, streams: Iterable[Stream]) -> Counter[tuple[str, str]]:
        """Bytes by service and C{sent} or C{received}, those of open C{streams} too."""
        counted = self._bytes.copy()
        for stream in streams:
            self._add(counted, self.label(stream.service), stream)
        return counted

    def _add(self, counted: Counter[tuple[str, str]], label: str, stream: Stream) -> None:
        counted[label, "sent"] += stream.sent
        counted[label, "received"] += stream.received
