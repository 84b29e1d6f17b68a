# SPDX-License-Identifier: MIT
"""
One direction of an in-memory connection: bytes and their end, in order, after a delay.

Tests: C{tests/testing/test_transport.py}.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

__all__ = ["Pipe", "PipeEnd", "Wire"]


class PipeEnd:
    """What a pipe asks of the transports at its ends."""

    connected: bool
    reading: bool

    def pump_soon(self) -> None:
        """There is room again."""

    def received(self, data: bytes) -> None:
        """Bytes arrived."""

    def ended(self, reason: Failure) -> None:
        """Nothing more arrives."""


@dataclass(frozen=True)
class Wire:
    """
    What a connection is like.

    @ivar delay: seconds one way.
    @ivar rate: bytes a second, None for no limit.
    @ivar capacity: bytes under way before the sender has to wait: window and kernel buffers.
    @ivar chunked: cut what arrives at random places.
    """

    delay: float = 0.001
    rate: float | None = None
    capacity: int = 256 * 1024
    chunked: bool = True


class Pipe:
    """One direction: bytes and their end, in order, after a delay."""

    def __init__(self, clock: IReactorTime, random: Random, wire: Wire) -> None:
        self._clock = clock
        self._random = random
        self.wire = wire
        self.reader: PipeEnd | None = None
        self.writer: PipeEnd | None = None
        self.under_way = 0
        self.stalled = False
        self._arriving: deque[tuple[float, bytes | Failure]] = deque()
        self._free = 0.0
        self._call: IDelayedCall | None = None

    @property
    def room(self) -> int:
        return max(0, self.wire.capacity - self.under_way)

    def send(self, item: bytes | Failure) -> None:
        now = self._clock.seconds()
        start = max(now, self._free)
        if isinstance(item, bytes):
            self.under_way += len(item)
            if self.wire.rate is not None:
                start += len(item) / self.wire.rate
        self._free = start
        self._arriving.append((start + self.wire.delay, item))
        self.wake()

    def wake(self) -> None:
        """Deliver what has arrived, if the reader wants it."""
        reader = self.reader
        if (
            self._call is None
            and self._arriving
            and not self.stalled
            and reader is not None
            and reader.reading
        ):
            wait = max(0.0, self._arriving[0][0] - self._clock.seconds())
            self._call = self._clock.callLater(wait, self._deliver)

    def clear(self) -> None:
        self._arriving.clear()
        self.under_way = 0
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _deliver(self) -> None:
        self._call = None
        reader, writer = self.reader, self.writer
        assert reader is not None and writer is not None
        if self.stalled or not reader.reading:
            return
        item = self._arriving.popleft()[1]
        if isinstance(item, Failure):
            reader.ended(item)
            return
        self.under_way -= len(item)
        writer.pump_soon()
        self._cut(reader, item)
        self.wake()

    def _cut(self, reader: PipeEnd, data: bytes) -> None:
        at = 0
        while at < len(data) and reader.connected:
            size = len(data) - at
            if self.wire.chunked:
                size = self._random.choice((1, self._random.randint(1, size), size))
            if not reader.reading:
                self.under_way += len(data) - at
                self._arriving.appendleft((0.0, data[at:]))
                return
            reader.received(data[at : at + size])
            at += size
