# SPDX-License-Identifier: MIT
"""
Segments to and from one peer: what leaves next, what has come, what is sent again, and when to give up.

Tests: C{tests/streams/test_mux.py}, C{tests/node/test_streams.py}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

from gmesh.endtoend.deadline_timer import DeadlineTimer
from gmesh.endtoend.limits import MAX_SEGMENT
from gmesh.errors import SendRefused
from gmesh.streams import limits
from gmesh.streams.budget import SendBudget
from gmesh.streams.flight import Flight, SentSegment
from gmesh.streams.lane import Lane, Outgoing, Part, SegmentsOwner
from gmesh.streams.loose import LooseFrames
from gmesh.streams.ranges import SeenNumbers
from gmesh.streams.schedule import Schedule
from gmesh.wire.frames import pack_frame
from gmesh.wire.messages import Inner
from gmesh.wire.stream_messages import SEGMENT_HEAD, Seen

__all__ = ["Segments"]

_SEGMENT = int(Inner.SEGMENT)
_MAX_DELAY = 2**16 - 1
_GENERATIONS = 2**32
_SILENCE = limits.KEEPALIVE * (1 - limits.KEEPALIVE_JITTER)
_SMALLEST = limits.SMALLEST_PIECE
_HEAD = SEGMENT_HEAD.size
_pack_head = SEGMENT_HEAD.pack


@implementer(IPushProducer)
class Segments:
    """
    The segments of one peer, both ways.

    @param first: the first number.
    @param budget: what may be under way.
    @ivar lane: where segments leave.
    @ivar attached: False once the lane is of no use any more, until there is another.
    @ivar flight: those that are not acknowledged.
    @ivar loose: frames of streams that have ended.
    @ivar open: False until it is known that the peer understands segments.
    """

    def __init__(
        self,
        owner: SegmentsOwner,
        lane: Lane,
        first: int,
        clock: IReactorTime,
        random: Random,
        budget: SendBudget,
        counters: Counter[str],
    ) -> None:
        self.lane = lane
        self.attached = True
        self.flight: Flight[Part] = Flight(first)
        self.loose = LooseFrames()
        self.open = False
        self.budget = budget
        self._clock = clock
        self._random = random
        self._counters = counters
        self._owner = owner
        self._schedule: Schedule[Outgoing] = Schedule()
        self._numbers = SeenNumbers()
        self._timer = DeadlineTimer(clock, self._due)
        self._pump_call: IDelayedCall | None = None
        self._pumping = False
        self._paused = False
        self._producing = False
        self._epoch = 0
        self._owed = False
        self._seen_call: IDelayedCall | None = None
        self._largest_at = 0.0
        self.heard_at = self._waits_since = clock.seconds()
        self._keepalive_at = 0.0

    def attach(self, lane: Lane) -> None:
        """Segments leave by C{lane} from now on."""
        self._produce_no_more()
        self.lane = lane
        self.attached = True
        self._epoch += _GENERATIONS
        self._soon()

    def detach(self) -> None:
        """The lane is of no use any more: look for another soon, if one is needed."""
        self.attached = False
        self._produce_no_more()
        if self.flight or self._schedule or self._owner.busy():
            now = self._clock.seconds()
            self._timer.by(now + limits.REATTACH, now)

    def _produce_no_more(self) -> None:
        if self._producing:
            self._producing = False
            self.lane.remove_producer(self)
        self._paused = False  # nobody resumes what is no producer

    def _produce(self) -> None:
        """Be a producer while there is something to send, or to wait for."""
        if not self._producing:
            self._producing = True
            self.lane.add_producer(self)

    # what leaves

    @property
    def idle(self) -> bool:
        """True if nothing waits and nothing is under way."""
        return not self.flight and not self._schedule

    def wake(self, one: Outgoing) -> None:
        """C{one} has something to send."""
        self._schedule.wake(one)
        self._soon()

    def _soon(self) -> None:
        """Send what waits in a turn of its own."""
        if self._schedule and self._pump_call is None and not self._pumping and not self._paused:
            self._pump_call = self._clock.callLater(0, self.pump)

    def say(self, frame: bytes) -> None:
        """Send a frame that belongs to no stream, until it is acknowledged."""
        if self.loose.add(frame):
            self.wake(self.loose)
        else:
            self._counters["stream-unsaid"] += 1

    def ask(self) -> None:
        """Send something to acknowledge, unless something is under way."""
        if not self.flight:
            self.loose.probe()
            self.wake(self.loose)

    def forget(self, one: Outgoing) -> None:
        """C{one} has ended."""
        self._schedule.forget(one)

    def pump(self) -> None:
        """Send what waits, as far as there is room."""
        if self._pump_call is not None:
            if self._pump_call.active():
                self._pump_call.cancel()
            self._pump_call = None
        if self._paused or self._pumping or not self.attached:
            return
        self._produce()
        if not self.open:
            self.lane.gather()  # there are no keys yet: see that there will be
            return
        began, now = bool(self.flight), self._clock.seconds()
        left = limits.BYTES_PER_TURN
        self._pumping = True
        try:
            while left > 0 and self.budget.allows() and (size := self._send(now)):
                left -= size
            if left <= 0 and self._pump_call is None:
                self._pump_call = self._clock.callLater(0, self.pump)
        finally:
            self._pumping = False
        if not began and self.flight:
            self._arm(now)
        self.lane.leave()

    def _send(self, now: float, probe: bool = False) -> int:
        """Send one segment. @return: its size; 0 if there is nothing to send, or no room for it."""
        schedule, lane = self._schedule, self.lane
        one = schedule.next()
        if one is None:
            return 0
        if self._paused and not probe:
            schedule.first(one)
            return 0
        seen = self.report() if self._owed and not lane.apart else b""
        pieces: list[Any] = [b"", seen] if seen else [b""]
        room = lane.segment_limit - _HEAD - len(seen)
        most = MAX_SEGMENT - _HEAD - len(seen)
        size = 0
        parts: list[Part] = []
        while one is not None:
            used, flags, item = one.fill(pieces, room - size, most - size)
            if used:
                size += used
                most = room  # what was lost and is larger than segments are now goes alone
                parts.append((one, flags, item))
                schedule.again(one)
                if room - size < _SMALLEST:
                    break
            elif one.sendable:
                schedule.first(one)
                break
            else:
                schedule.idle(one)
            one = schedule.next()
        if not parts:
            self._owed = self._owed or bool(seen)
            return len(seen) if seen and self._send_seen() and schedule else 0
        number = self.flight.next
        pieces[0] = _pack_head(8, _SEGMENT, number)
        if not lane.segment(pieces, _HEAD + len(seen) + size, probe):
            self._owed = self._owed or bool(seen)
            self._lose(parts)
            if not schedule:  # what asks the peer has not left: it is not lost
                self.loose.probe()
                schedule.wake(self.loose)
            if not self._paused:  # there is no path: nobody says when there is one
                self._timer.by(now + limits.RETRY, now)
            return 0
        self.flight.sent(parts, now, self._epoch + lane.path_generation)
        for one, _, _ in parts:
            one.sent_some()
        return _HEAD + len(seen) + size

    # what has come

    def came(self, number: int, now: float) -> None:
        """The segment with this number has come, and all of it was taken."""
        numbers, in_order = self._numbers, True
        if number == numbers.largest + 1:
            numbers.largest = number  # as nearly always
        else:
            in_order = numbers.add(number)
        if number == numbers.largest:
            self._largest_at = now
        self._owed = True
        if self._seen_call is None:
            self._seen_call = self._clock.callLater(limits.SEEN_DELAY if in_order else 0, self._seen_is_due)
        elif not in_order and self._seen_call.getTime() > now:
            self._seen_call.reset(0)

    def report(self) -> bytes:
        """A SEEN of all that has come; nothing if that was said."""
        if not self._owed:
            return b""
        self._owed = False
        delay = int((self._clock.seconds() - self._largest_at) * 10_000)
        return pack_frame(Inner.SEEN, Seen(min(delay, _MAX_DELAY), self._numbers.runs).encode())

    def _seen_is_due(self) -> None:
        self._seen_call = None
        if self._owed:
            self._send_seen()

    def _send_seen(self) -> bool:
        """Report by itself. @return: False if there is no room for it."""
        if not self.attached:
            return False
        try:
            self.lane.answer(self.report())
        except SendRefused:
            self._owed = True
            return False
        return True

    def seen(self, seen: Seen, now: float) -> None:
        """
        The peer reports what it has.

        @raise FrameRefused: C{never-sent}.
        """
        flight = self.flight
        acknowledged, lost = flight.seen(seen, now)
        if not acknowledged:
            return
        if len(acknowledged) <= 2 and flight.srtt is not None:
            self.lane.sample(flight.latest)
        settled = 0
        for segment in acknowledged:
            for one, flags, item in segment.parts:
                settled += one.acknowledged(flags, item)
        self.budget.change(-settled)
        self._send_again(lost, now)
        if flight:
            self._arm(now)
        self._soon()

    def bounced(self) -> None:
        """A relay dropped something that was for the peer."""
        now = self._clock.seconds()
        self.flight.hurry(now)
        if self.flight:
            self._arm(now)

    def _send_again(self, lost: list[SentSegment[Part]], now: float) -> None:
        if not lost:
            return
        self.lane.lost(now)
        self._owed = self._owed or bool(self._numbers)  # a report may have been lost with them
        self._counters["segments-resent"] += len(lost)
        for segment in lost:
            if not segment.spent:
                self._lose(segment.parts)
        self._soon()

    def _lose(self, parts: Sequence[Part]) -> None:
        """These did not arrive: they have something to send again, if it still counts."""
        for one, flags, item in parts:
            one.lost(flags, item)
            if one.sendable:
                self._schedule.wake(one)

    # time

    def watch(self) -> None:
        """Something is open from now on: notice when the peer falls silent."""
        now = self._clock.seconds()
        self._waits_since = max(self._waits_since, now)
        self._keepalive_at = 0.0
        self._arm(now)

    def _arm(self, now: float) -> None:
        deadline = self.flight.deadline()
        if deadline is None:
            if not self._owner.busy():
                return
            if self._keepalive_at <= now:
                spread = 1 + limits.KEEPALIVE_JITTER * (2 * self._random.random() - 1)
                silence = limits.KEEPALIVE * spread
                at = self.heard_at + silence
                self._keepalive_at = at if at > now else now + silence
            deadline = self._keepalive_at
        self._timer.by(deadline, now)

    def _due(self) -> None:
        """A segment may be lost, or the peer have been silent for long."""
        now = self._clock.seconds()
        flight = self.flight
        waits = bool(flight or self._schedule)
        if not waits:
            self._waits_since = now
        if waits and now - max(self.heard_at, self._waits_since) >= limits.PATIENCE:
            self._owner.silent()
            return
        if not self.attached:
            self._owner.reattach()
            if not self.attached:
                self._timer.by(now + limits.REATTACH, now)
                return
        self._send_again(flight.lost(now), now)
        segment = flight.probe(now)
        if segment is not None:
            self._probe(segment, now)
        elif not flight and self._owner.busy() and now - self.heard_at >= _SILENCE:
            self.ask()
        else:
            self._soon()
        self._arm(now)

    def _probe(self, segment: SentSegment[Part], now: float) -> None:
        """Nothing is acknowledged for long: send the oldest segment again, whatever the window says."""
        self._counters["stream-probes"] += 1
        if not segment.spent:
            segment.spent = True
            self._lose(segment.parts)
        if not any(one.sendable for one, _, _ in segment.parts):
            self.loose.probe()
            self._schedule.wake(self.loose)
        if self.flight.probes == limits.PROBES_BEFORE_BLAME:
            self.lane.blame(segment.generation - self._epoch, segment.at)
        elif self.flight.probes >= limits.PROBES_BEFORE_COLLAPSE:
            self.lane.lost(now)
        if self.open and self.attached and not self._pumping:
            self._produce()
            self._pumping = True
            try:
                self._send(now, probe=True)
            finally:
                self._pumping = False
            self.lane.leave()

    def rest(self) -> None:
        """Nothing is open, waits or is under way: be no producer, leave no timer."""
        self._produce_no_more()
        self._timer.cancel()

    def close(self) -> None:
        """All that waits or is under way is forgotten, and what has come."""
        self.flight.clear()
        self.loose.clear()
        self._schedule = Schedule()
        self._numbers = SeenNumbers()
        self._owed = False
        self.rest()
        for call in (self._pump_call, self._seen_call):
            if call is not None and call.active():
                call.cancel()
        self._pump_call = self._seen_call = None

    # IPushProducer

    def pauseProducing(self) -> None:
        """There are no keys, no room or no window."""
        self._paused = True

    def resumeProducing(self) -> None:
        """There is again."""
        self._paused = False
        if self._schedule:
            self.pump()

    def stopProducing(self) -> None:
        """The way out is closed; another may be found."""
        self._paused = False
