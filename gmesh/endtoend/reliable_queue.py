# SPDX-License-Identifier: MIT
"""
Acknowledged messages to one peer: which may be sent, which again, which are held there. Pure.

A message waits, is under way until the peer has taken it, and is held there until its receiver is done with
it.  What is under way counts for the window; what is held is only asked about.  Each service has a lane of
its own: one that has no room there takes nothing from the others.

Tests: C{tests/endtoend/test_reliable.py}, C{tests/endtoend/test_reliable_queue.py}.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from gmesh.endtoend import limits
from gmesh.endtoend.congestion import CongestionControl
from gmesh.errors import SendRefused
from gmesh.wire.frames import pack_frame
from gmesh.wire.messages import Datagram, DatagramTemplate, Inner

__all__ = ["Delivered", "ReliableMessage", "ReliableQueue", "Told", "encode_datagram"]


class Delivered(NamedTuple):
    """
    The receiver is done with a message, or, if no acknowledgement was wanted, it was sent.

    @ivar rtt: seconds from sending it to its acknowledgement, and so with the time its receiver took; None
        without one.
    @ivar answer: what the receiver gave back.
    """

    rtt: float | None
    answer: bytes = b""


Told = Callable[[Delivered | SendRefused], object]
"""Called once with what became of a message."""


def _nobody(became: Delivered | SendRefused) -> None:
    """Nobody waits for it."""


def _nothing(message: ReliableMessage, reason: str) -> None:
    """It has no sender."""


def encode_datagram(
    service: str,
    message: int,
    data: bytes,
    want_ack: bool,
    outcome: bool = False,
    key: str = "",
    again: bool = False,
) -> list[bytes]:
    """The inner frames of one datagram, with the fields of L{Datagram}: one, or fragments."""
    size = limits.FRAGMENT_SIZE
    if len(data) <= size and not key:
        return [_template(service, want_ack, outcome, again).frame(message, data)]
    count = max(1, -(-len(data) // size))
    return [
        pack_frame(
            Inner.DATAGRAM,
            Datagram(
                service,
                message,
                data[index * size : (index + 1) * size],
                want_ack,
                index,
                count,
                outcome,
                key,
                again,
            ).encode(),
        )
        for index in range(count)
    ]


_template = lru_cache(limits.MAX_LANES)(DatagramTemplate)


class _Lane:
    """
    The messages to one service.

    @ivar flying: how many are under way.
    @ivar allowed: how many may be, as far as the service has shown.
    @ivar until: no message is sent before, as there was no room.
    @ivar pause: how long it is left alone the next time.
    @ivar there: when it last took a message.
    @ivar done: when it last was done with one.
    """

    __slots__ = (
        "allowed",
        "bytes",
        "done",
        "flying",
        "messages",
        "pause",
        "service",
        "there",
        "until",
        "waiting",
    )

    def __init__(self, service: str) -> None:
        self.service = service
        self.waiting: deque[ReliableMessage] = deque()
        self.messages = 0
        self.bytes = 0
        self.flying = 0
        self.allowed = limits.MAX_RELIABLE_MESSAGES
        self.until = float("-inf")
        self.pause = limits.BUSY_PAUSE
        self.there = self.done = float("-inf")


class ReliableMessage:
    """
    One acknowledged message.

    @ivar deadline: when to give up.
    @ivar key: by which the peer knows it again; empty without one.
    @ivar told: called once it has ended.
    @param finish: ends it for a reason.
    @ivar size: bytes it counts for.
    @ivar lane: its service's, once it is queued.
    @ivar order: rises with each message; 0 before it is queued, and once it has ended.
    @ivar number: given each time it is sent for the first time; -1 while it waits.
    @ivar frames: its inner frames, from then on.
    @ivar due: when to send it again; while it is held, when to ask about it.
    @ivar last_sent: when it last was.
    @ivar path: by which path.
    @ivar reason: why it would be given up now.
    @ivar again: it may have been handed over already, under another number.
    @ivar held: the peer has it.
    @ivar there: when its service had last taken a message before this one.
    """

    # what most messages never change is not set for each
    order = 0
    number = -1
    frames: Sequence[bytes] = ()
    counters: Sequence[int] = ()
    first_sent = due = last_sent = 0.0
    path: tuple[bytes, ...] | None = None
    tries = fast = 0
    reason = "timed-out"
    again = held = False
    there = float("-inf")
    lane: _Lane

    def __init__(
        self,
        service: str,
        data: bytes,
        deadline: float,
        key: str = "",
        told: Told = _nobody,
        finish: Callable[[ReliableMessage, str], object] = _nothing,
    ) -> None:
        self.service = service
        self.data = data
        self.deadline = deadline
        self.key = key
        self.told = told
        self._finish = finish
        self.size = len(data) + limits.MESSAGE_COST

    def cancel(self) -> None:
        """The sender gives it up, if it has not ended."""
        self._finish(self, "cancelled")


class ReliableQueue:
    """
    Which acknowledged messages may be sent, and which again. Pure.

    @param start: upper half of their numbers, so that they are those of no queue before.
    """

    __slots__ = (
        "_asked",
        "_bytes",
        "_count",
        "_flying",
        "_flying_bytes",
        "_held",
        "_lanes",
        "_next",
        "_order",
        "_sampled",
        "_turn",
        "control",
    )

    def __init__(self, start: int) -> None:
        self.control = CongestionControl()
        self._next = start << 32
        self._order = 0
        self._lanes: OrderedDict[str, _Lane] = OrderedDict()
        self._turn: OrderedDict[str, _Lane] = OrderedDict()  # lanes with waiting messages
        self._flying: dict[int, ReliableMessage] = {}
        self._held: dict[int, ReliableMessage] = {}
        self._asked: set[int] = set()
        self._count = self._bytes = 0
        self._flying_bytes = 0
        self._sampled = -1.0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[ReliableMessage]:
        yield from list(self._held.values())
        yield from list(self._flying.values())
        for lane in list(self._turn.values()):
            yield from list(lane.waiting)

    @property
    def waiting(self) -> bool:
        """True if there is a message that was not sent, or is to be sent as if it was not."""
        return bool(self._turn)

    @property
    def empty(self) -> bool:
        """True if there is no message at all."""
        return not self._count

    def add(self, message: ReliableMessage) -> None:
        """
        Queue C{message}.

        @raise SendRefused: C{busy}, if too much is queued.
        """
        lane = self._lanes.get(message.service) or self._new_lane(message.service)
        if (
            lane.messages >= limits.MAX_RELIABLE_MESSAGES
            or lane.bytes + message.size > limits.MAX_RELIABLE_BYTES
        ):
            raise SendRefused(
                "busy", f"{lane.messages} messages to {message.service} of this node wait already; slow down"
            )
        if self._count >= limits.MAX_PEER_MESSAGES or self._bytes + message.size > limits.MAX_PEER_BYTES:
            raise SendRefused("busy", f"{self._count} messages to this node wait already; slow down")
        self._count += 1
        self._order += 1
        message.order = self._order
        message.lane = lane
        lane.waiting.append(message)
        lane.messages += 1
        lane.bytes += message.size
        self._bytes += message.size
        self._turn[message.service] = lane

    def next(self, now: float) -> ReliableMessage | None:
        """
        The next message to send for the first time, if the windows allow one: of bytes, and of numbers,
        for the peer remembers only so many.  Services take turns.
        """
        turn = self._turn
        alone = len(turn) == 1
        for _ in range(len(turn)):
            lane = next(iter(turn.values()))
            if not alone:
                turn.move_to_end(lane.service)
            if lane.until > now or lane.flying >= lane.allowed:
                continue
            message = lane.waiting[0]
            flying, number, size = self._flying, self._next, message.size
            if flying and (
                self._flying_bytes + size > self.control.cwnd
                or number - next(iter(flying)) >= limits.ACK_WINDOW
            ):
                turn.move_to_end(lane.service, last=False)
                return None
            lane.waiting.popleft()
            if not lane.waiting:
                del turn[lane.service]
            message.number = number
            if message.tries:  # under another number
                message.tries = message.fast = 0
            self._next = number + 1
            self._flying_bytes += size
            flying[number] = message
            lane.flying += 1
            return message
        return None

    def sent(self, messages: Iterable[ReliableMessage], counters: Sequence[int], now: float) -> None:
        """They were sent together, or an attempt made to."""
        rto = self.control.rto
        for message in messages:
            tries = message.tries
            message.last_sent = now
            if not tries:
                message.first_sent = message.first_sent or now
            message.due = now + (min(rto * 2**tries, limits.MAX_RTO) if tries else rto)  # RFC 6298, 5.5
            message.tries = tries + 1
            message.counters = counters

    def flying(self, number: int) -> ReliableMessage | None:
        """The message with this number, if it was sent and not answered."""
        return self._flying.get(number)

    def find(self, number: int) -> ReliableMessage | None:
        """The message with this number, if it is under way or held."""
        return self._flying.get(number) or self._held.get(number)

    def arrived(self, messages: Iterable[ReliableMessage], now: float) -> None:
        """The peer answers about these: those that were under way need no window any more."""
        flying, size, rtt = self._flying, 0, None
        for message in messages:
            if flying.pop(message.number, None) is None:
                continue
            size += message.size
            message.lane.flying -= 1
            sent = message.last_sent
            if sent != self._sampled and message.tries == 1:  # what left together has one round trip
                self._sampled = sent
                rtt = now - sent
        if size:
            self._flying_bytes -= size
            self.control.answered(size, rtt)

    def taken(self, messages: Sequence[ReliableMessage], now: float) -> None:
        """The peer holds these, so their services are there, and have room."""
        self.arrived(messages, now)
        for message in messages:
            message.there = message.lane.there
            self._there(message.lane, now)
            self._held[message.number] = message
            message.held = True
            message.reason = "timed-out"
            message.frames = ()
            message.due = now + limits.ASK_WAITING

    def answered(self, messages: Sequence[ReliableMessage], now: float) -> None:
        """These are done with."""
        self.arrived(messages, now)
        for message in messages:
            if message.held:
                del self._held[message.number]
            lane = message.lane
            if lane.done != now or lane.allowed < limits.MAX_RELIABLE_MESSAGES:  # else another said it all
                self._there(lane, now)
                lane.done = now
            self._forget(message, lane)

    def _there(self, lane: _Lane, now: float) -> None:
        lane.there = now
        lane.pause = limits.BUSY_PAUSE
        if lane.allowed < limits.MAX_RELIABLE_MESSAGES:
            lane.allowed += 1

    def missing(self, message: ReliableMessage) -> None:
        """The peer held C{message} for a receiver that did not come: that it took it shows nothing."""
        lane = message.lane
        lane.there = max(lane.done, min(lane.there, message.there))

    def returns(self, service: str, now: float) -> bool:
        """True if a service that is not there now was there so lately that it may come back."""
        lane = self._lanes.get(service)
        return lane is not None and now - lane.there < limits.SERVICE_RETURNS

    def back(self, message: ReliableMessage, now: float) -> None:
        """There was no room for C{message}: it waits, and goes again under another number."""
        self._held.pop(message.number, None)
        self.arrived((message,), now)
        lane = message.lane
        if now >= lane.until:
            lane.until = now + lane.pause
            lane.pause = min(2 * lane.pause, limits.MAX_BUSY_PAUSE)
            lane.allowed = max(1, lane.flying // 2)
        self._wait_again(message, lane)

    def lost(self, message: ReliableMessage) -> None:
        """The peer does not hold C{message} any more: it goes again, and may have been handed over."""
        del self._held[message.number]
        message.again = True
        self._wait_again(message, message.lane)

    def _wait_again(self, message: ReliableMessage, lane: _Lane) -> None:
        """In the order in which messages came."""
        message.number = -1
        message.held = False
        message.frames = ()
        place = 0
        for other in lane.waiting:
            if other.order > message.order:
                break
            place += 1
        lane.waiting.insert(place, message)
        self._turn[message.service] = lane

    def remove(self, message: ReliableMessage) -> None:
        """Forget C{message}."""
        lane = message.lane
        if self._flying.pop(message.number, None) is not None:
            self._flying_bytes -= message.size
            lane.flying -= 1
        elif self._held.pop(message.number, None) is None and message in lane.waiting:
            lane.waiting.remove(message)
            if not lane.waiting:
                del self._turn[message.service]
        if message.order:
            self._forget(message, lane)

    def _forget(self, message: ReliableMessage, lane: _Lane) -> None:
        """It counts for nothing any more."""
        message.order = 0
        self._count -= 1
        lane.messages -= 1
        lane.bytes -= message.size
        self._bytes -= message.size

    def bounced(self, counter: int, now: float) -> list[ReliableMessage]:
        """The messages that were in the frame with this counter, due again soon, some times."""
        found = [message for message in self._flying.values() if counter in message.counters]
        found = [message for message in found if message.fast < limits.MAX_FAST_RETRANSMITS]
        for message in found:
            message.fast += 1
            message.due = min(message.due, now + limits.FAST_RETRANSMIT)
        return found

    def due(self, now: float) -> list[ReliableMessage]:
        """Messages to send again."""
        return [message for message in self._flying.values() if message.due <= now]

    def to_ask(self, now: float) -> list[int]:
        """Numbers of held messages to ask about now, and not again before long."""
        asked = [message for message in self._held.values() if message.due <= now]
        for message in asked:
            message.due = now + limits.ASK_WAITING
        self._asked = {number for number in self._asked if number in self._held}
        self._asked.update(message.number for message in asked)
        return [message.number for message in asked]

    def asked(self, message: ReliableMessage) -> bool:
        """True if the peer was asked about C{message} since it took it: only then it says that it lost it."""
        return message.number in self._asked

    def pauses(self, message: ReliableMessage) -> float:
        """Until when messages to the service of this one wait, as there was no room."""
        return message.lane.until

    def overdue(self, now: float) -> list[ReliableMessage]:
        """Messages to give up."""
        return [message for message in self if message.deadline <= now]

    def deadline(self, now: float) -> float | None:
        """When to ask L{due}, L{to_ask}, L{next} and L{overdue} again, after C{now}."""
        times = [message.deadline for message in self]
        times += [message.due for message in self._flying.values()]
        times += [message.due for message in self._held.values()]
        times += [lane.until for lane in self._turn.values() if lane.until > now]
        return min(times, default=None)

    def _new_lane(self, service: str) -> _Lane:
        """The lane of a service; of those without messages only some are remembered."""
        lane = self._lanes[service] = _Lane(service)
        for name, other in list(self._lanes.items())[: max(0, len(self._lanes) - limits.MAX_LANES)]:
            if not other.messages and other is not lane:
                del self._lanes[name]
        return lane
