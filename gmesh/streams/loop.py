# SPDX-License-Identifier: MIT
"""
A node's streams to itself: two ends joined in memory, which nothing seals and no link carries.

Tests: C{tests/streams/test_twisted_mixins.py}, C{tests/node/test_streams.py}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime

from gmesh.endtoend.limits import MAX_SEGMENT

__all__ = ["LoopLane"]


class LoopLane:
    """
    The way from one of the two ends to the other; what leaves in one turn arrives in the next.

    @param arrived: called with each plaintext at the other end.
    @ivar segment_limit: bytes of inner frames that share a plaintext.
    """

    apart: bool = False
    path_generation: int = 0
    srtt: float | None = None

    def __init__(self, clock: IReactorTime, arrived: Callable[[bytes], object]) -> None:
        self.segment_limit = MAX_SEGMENT
        self._clock = clock
        self._arrived = arrived
        self._under_way: deque[bytes] = deque()
        self._call: IDelayedCall | None = None

    def segment(self, pieces: Sequence[bytes | memoryview], size: int, probe: bool = False) -> bool:
        """As L{BatchSender.segment<gmesh.endtoend.batching.BatchSender.segment>}; there is always room."""
        self.answer(b"".join(pieces))
        return True

    def answer(self, frame: bytes) -> None:
        """As L{BatchSender.answer<gmesh.endtoend.batching.BatchSender.answer>}."""
        self._under_way.append(frame)
        if self._call is None:
            self._call = self._clock.callLater(0, self._arrive)

    def _arrive(self) -> None:
        self._call = None
        for _ in range(len(self._under_way)):
            if self._under_way:  # else what arrived had it closed
                self._arrived(self._under_way.popleft())

    def close(self) -> None:
        """Nothing arrives any more."""
        self._under_way.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def leave(self) -> None:
        """What was given leaves by itself."""

    def gather(self) -> int:
        """No keys are needed."""
        return 1

    def add_producer(self, producer: IPushProducer) -> None:
        """There is always room."""

    def remove_producer(self, producer: IPushProducer) -> None:
        """There was always room."""

    def lost(self, now: float) -> None:
        """Memory loses nothing."""

    def sample(self, rtt: float) -> None:
        """A round trip is a turn or two."""

    def blame(self, generation: int, sent: float) -> None:
        """There is no other path."""
