# SPDX-License-Identifier: MIT
"""
Segments under way to one peer: their numbers, what is acknowledged, what is lost, when to probe. Pure.

Loss and probes follow RFC 9002 with two things that the mesh knows: which path a segment took, since a change
of the path turns the order of a whole window around, and that a relay has dropped something.
Tests: C{tests/streams/test_flight.py}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

from gmesh.errors import FrameRefused
from gmesh.streams import limits
from gmesh.wire.stream_messages import Seen

__all__ = ["Flight", "SentSegment"]

T = TypeVar("T")


class SentSegment(Generic[T]):
    """
    A segment that was sent.

    @ivar parts: what it carries.
    @ivar generation: of the path it took.
    @ivar spent: True once its parts were sent again, while it may still be acknowledged.
    @ivar done: True once it is acknowledged or lost.
    """

    __slots__ = ("at", "done", "generation", "number", "parts", "spent")

    def __init__(self, number: int, parts: Sequence[T], at: float, generation: int) -> None:
        self.number = number
        self.parts = parts
        self.at = at
        self.generation = generation
        self.spent = False
        self.done = False


class Flight(Generic[T]):
    """
    The segments that are not acknowledged.

    @param first: the first number; it rises by one with each segment.
    @ivar next: the number of the next segment.
    @ivar srtt: smoothed round trip in seconds, None before the first (RFC 9002, section 5.3).
    @ivar latest: the last round trip that was measured.
    @ivar probes: in a row, without anything acknowledged.
    @ivar since: when something was last acknowledged or probed.
    """

    __slots__ = (
        "_heard",
        "_hurries",
        "_hurry_at",
        "_lost_at",
        "_queue",
        "_rttvar",
        "_seen",
        "latest",
        "next",
        "probes",
        "since",
        "srtt",
    )

    def __init__(self, first: int) -> None:
        self.next = first
        self.srtt: float | None = None
        self.probes = 0
        self.since = 0.0
        self.latest = 0.0
        self._rttvar = limits.INITIAL_RTT / 2
        self._queue: deque[SentSegment[T]] = deque()
        self._heard: dict[int, int] = {}
        self._seen = -1
        self._lost_at: float | None = None
        self._hurries = 0
        self._hurry_at: float | None = None

    def __bool__(self) -> bool:
        """True if anything is under way."""
        return bool(self._queue)

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def oldest(self) -> SentSegment[T] | None:
        """The oldest segment that is neither acknowledged nor lost."""
        return self._queue[0] if self._queue else None

    @property
    def probe_time(self) -> float:
        """How long an acknowledgement may take (RFC 9002, section 6.2.1)."""
        srtt = limits.INITIAL_RTT if self.srtt is None else self.srtt
        return max(limits.MIN_PROBE, srtt + 4 * self._rttvar + limits.SEEN_DELAY)

    def sent(self, parts: Sequence[T], now: float, generation: int) -> int:
        """A segment with C{parts} leaves by this path. @return: its number."""
        number = self.next
        self.next = number + 1
        if not self._queue:
            self.since = now
        self._queue.append(SentSegment(number, parts, now, generation))
        return number

    def seen(self, seen: Seen, now: float) -> tuple[list[SentSegment[T]], list[SentSegment[T]]]:
        """
        The peer says what it has seen.

        @return: segments that are newly acknowledged, and those that are thereby lost.
        @raise FrameRefused: C{never-sent}, if it claims more than was sent; nothing has changed then.
        """
        largest = seen.runs[0][1]
        if largest >= self.next:
            raise FrameRefused("never-sent", "the peer acknowledges segments that were never sent")
        acknowledged = self._take(seen.runs, largest)
        if not acknowledged:
            return [], []
        self.since = now
        self.probes = self._hurries = 0
        self._hurry_at = None
        newest = acknowledged[-1]
        if newest.number == largest:
            self._sample(now - newest.at, seen.delay / 10_000)
        heard = self._heard
        for segment in acknowledged:
            heard[segment.generation] = max(segment.number, heard.get(segment.generation, -1))
        self._seen = max(self._seen, largest)
        if len(heard) > limits.MAX_GENERATIONS:
            del heard[min(heard)]
        return acknowledged, self.lost(now)

    def lost(self, now: float) -> list[SentSegment[T]]:
        """Segments that are lost by now, for what is acknowledged above them (RFC 9002, section 6.1)."""
        self._lost_at = None
        queue = self._queue
        if not queue or queue[0].number > self._seen:
            return []
        heard = self._heard
        newest = max(heard)
        reordered = limits.TIME_THRESHOLD * max(self.srtt or limits.INITIAL_RTT, self.latest)
        found, next_at = [], None
        for segment in queue:
            if segment.number > self._seen:
                break
            if segment.done:
                continue
            above = heard.get(segment.generation, -1) - segment.number
            if above > 0:
                due = segment.at + (reordered if above < limits.LATER_SEGMENTS else 0.0)
            elif segment.generation < newest:
                due = segment.at + self.probe_time  # by the path before: that one may only be longer
            else:
                continue
            if due <= now:
                segment.done = True
                found.append(segment)
            elif next_at is None or due < next_at:
                next_at = due
        self._lost_at = next_at
        self._drop_done()
        return found

    def deadline(self) -> float | None:
        """When L{lost} or L{probe} is due, None if nothing is under way."""
        if not self._queue:
            return None
        times = [self.since + min(limits.MAX_PROBE, self.probe_time * 2.0**self.probes)]
        times += [at for at in (self._lost_at, self._hurry_at) if at is not None]
        return min(times)

    def probe(self, now: float) -> SentSegment[T] | None:
        """
        Has the peer been silent for too long by now?

        @return: the oldest segment, to be sent again; None if it is not time.
        """
        if not self._queue:
            return None
        due = self.since + min(limits.MAX_PROBE, self.probe_time * 2.0**self.probes)
        if self._hurry_at is not None:
            due = min(due, self._hurry_at)
        if now < due:
            return None
        if self._hurry_at is not None and now >= self._hurry_at:
            self._hurry_at = None
        else:
            self.probes += 1
        self.since = now
        return self._queue[0]

    def hurry(self, now: float) -> None:
        """A relay dropped something: probe soon."""
        if self._queue and self._hurry_at is None and self._hurries < limits.MAX_HURRIES:
            self._hurries += 1
            self._hurry_at = now + limits.HURRY

    def clear(self) -> list[SentSegment[T]]:
        """Nothing is under way any more. @return: what was."""
        left = [segment for segment in self._queue if not segment.done]
        self._queue.clear()
        self._heard.clear()
        self._seen = -1
        self.probes = self._hurries = 0
        self._lost_at = self._hurry_at = None
        return left

    def _take(self, runs: Sequence[tuple[int, int]], largest: int) -> list[SentSegment[T]]:
        """Take out what is acknowledged, ascending."""
        queue = self._queue
        if not queue or largest < queue[0].number:
            return []
        taken: list[SentSegment[T]] = []
        if runs[0][0] <= queue[0].number:  # all up to the largest, as nearly always
            while queue and queue[0].number <= largest:
                segment = queue.popleft()
                if not segment.done:
                    taken.append(segment)
            self._drop_done()
            return taken
        ascending = list(runs)
        first, last = ascending.pop()
        for segment in queue:
            number = segment.number
            if number > largest:
                break
            while number > last:
                first, last = ascending.pop()
            if number >= first and not segment.done:
                segment.done = True
                taken.append(segment)
        self._drop_done()
        return taken

    def _drop_done(self) -> None:
        queue = self._queue
        while queue and queue[0].done:
            queue.popleft()

    def _sample(self, rtt: float, delay: float) -> None:
        """RFC 9002, section 5.3."""
        rtt = max(rtt - delay, 0.0) or rtt
        self.latest = rtt
        if self.srtt is None:
            self.srtt, self._rttvar = rtt, rtt / 2
        else:
            self._rttvar += (abs(self.srtt - rtt) - self._rttvar) / 4
            self.srtt += (rtt - self.srtt) / 8
