# SPDX-License-Identifier: MIT
"""
Acknowledged messages to one peer: sent within a window, repeated until answered, given up in time.

The retransmission timer is that of RFC 6298; the round trip is measured in L{gmesh.endtoend.congestion}.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from gmesh.endtoend import limits
from gmesh.endtoend.batching import BatchSender
from gmesh.endtoend.congestion import CongestionControl
from gmesh.endtoend.deadline_timer import DeadlineTimer
from gmesh.endtoend.path_trials import PathTrials
from gmesh.endtoend.sealing import Sealer
from gmesh.errors import SendRefused
from gmesh.wire.frames import pack_frame
from gmesh.wire.messages import Datagram, Inner, Outcome, Receipt

__all__ = ["ReliableMessage", "ReliableQueue", "ReliableSender", "encode_datagram"]

_DETAILS = {
    "timed-out": "{name} did not acknowledge in time",
    "no-route": "no path to {name} at present",
    "busy": "the receiver of {service} at {name} is busy",
    "no-such-service": "{name} has no receiver for {service}",
    "denied": "{name} denies {service}: its policy forbids it, or it has lost touch with the authority",
    "refused": "the receiver of {service} at {name} refused or failed",
    "too-large": "the message is too large for {name}",
    "revoked": "the node {name} is revoked",
    "expired": "the certificate of {name} has expired and no newer one arrived",
    "cancelled": "the caller gave up",
    "stopped": "this node is stopping",
}


def encode_datagram(service: str, message: int, data: bytes, want_ack: bool) -> list[bytes]:
    """The inner frames of one datagram: one, or fragments."""
    size = limits.FRAGMENT_SIZE
    if len(data) <= size:
        return [pack_frame(Inner.DATAGRAM, Datagram(service, message, data, want_ack).encode())]
    count = -(-len(data) // size)
    return [
        pack_frame(
            Inner.DATAGRAM,
            Datagram(
                service, message, data[index * size : (index + 1) * size], want_ack, index, count
            ).encode(),
        )
        for index in range(count)
    ]


@dataclass(slots=True, eq=False)
class ReliableMessage:
    """
    One acknowledged message.

    @ivar deadline: when to give up.
    @ivar result: whatever its owner wants to find with it again.
    @ivar number: given when it is first sent.
    @ivar frames: its inner frames, from then on.
    @ivar due: when to send it again.
    @ivar last_sent: when it last was.
    @ivar path: by which path.
    @ivar reason: why it would be given up now.
    """

    service: str
    data: bytes
    deadline: float
    result: Any = None
    number: int = -1
    frames: list[bytes] = field(default_factory=list)
    counters: list[int] = field(default_factory=list)
    first_sent: float = 0.0
    due: float = 0.0
    last_sent: float = 0.0
    path: tuple[bytes, ...] | None = None
    tries: int = 0
    fast: int = 0
    reason: str = "timed-out"

    @property
    def size(self) -> int:
        """Bytes it counts for."""
        return len(self.data) + limits.MESSAGE_COST


class ReliableQueue:
    """
    Which acknowledged messages may be sent, and which again. Pure.

    @param start: upper half of their numbers, so that they are those of no queue before.
    """

    __slots__ = ("_bytes", "_flying", "_flying_bytes", "_next", "_waiting", "control")

    def __init__(self, start: int) -> None:
        self.control = CongestionControl()
        self._next = start << 32
        self._waiting: deque[ReliableMessage] = deque()
        self._flying: dict[int, ReliableMessage] = {}
        self._bytes = 0
        self._flying_bytes = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._flying)

    def __iter__(self) -> Iterator[ReliableMessage]:
        yield from list(self._flying.values())
        yield from list(self._waiting)

    def add(self, message: ReliableMessage) -> None:
        """
        Queue C{message}.

        @raise SendRefused: C{busy}, if too much is queued.
        """
        if (
            len(self) >= limits.MAX_RELIABLE_MESSAGES
            or self._bytes + message.size > limits.MAX_RELIABLE_BYTES
        ):
            raise SendRefused("busy", f"{len(self)} messages to this node wait already; slow down")
        self._waiting.append(message)
        self._bytes += message.size

    def next(self) -> ReliableMessage | None:
        """
        The next message to send for the first time, if the windows allow one: of bytes, and of numbers,
        for the peer remembers only so many.
        """
        if not self._waiting:
            return None
        message = self._waiting[0]
        if self._flying:
            oldest = next(iter(self._flying))
            if (
                self._flying_bytes + message.size > self.control.cwnd
                or self._next - oldest >= limits.ACK_WINDOW
            ):
                return None
        self._waiting.popleft()
        message.number = self._next
        self._next += 1
        self._flying[message.number] = message
        self._flying_bytes += message.size
        message.frames = encode_datagram(message.service, message.number, message.data, True)
        return message

    def sent(self, message: ReliableMessage, counters: list[int], now: float) -> None:
        """C{message} was sent, or an attempt made to."""
        message.last_sent = now
        if message.tries == 0:
            message.first_sent = now
        message.due = now + min(self.control.rto * 2**message.tries, limits.MAX_RTO)  # RFC 6298, 5.5
        message.tries += 1
        message.counters = counters

    def flying(self, number: int) -> ReliableMessage | None:
        """The message with this number, if it was sent and not answered."""
        return self._flying.get(number)

    def answered(self, message: ReliableMessage, now: float) -> float:
        """C{message} was answered. @return: seconds since it was first sent."""
        elapsed = now - message.first_sent
        self.control.answered(message.size, elapsed if message.tries == 1 else None)
        self.remove(message)
        return elapsed

    def remove(self, message: ReliableMessage) -> None:
        """Forget C{message}."""
        if self._flying.pop(message.number, None) is not None:
            self._flying_bytes -= message.size
        elif message in self._waiting:
            self._waiting.remove(message)
        else:
            return
        self._bytes -= message.size

    def bounced(self, counter: int, now: float) -> ReliableMessage | None:
        """The message whose frame had this counter, due again soon, some times."""
        for message in self._flying.values():
            if counter in message.counters:
                if message.fast >= limits.MAX_FAST_RETRANSMITS:
                    return None
                message.fast += 1
                message.due = min(message.due, now + limits.FAST_RETRANSMIT)
                return message
        return None

    def due(self, now: float) -> list[ReliableMessage]:
        """Messages to send again."""
        return [message for message in self._flying.values() if message.due <= now]

    def overdue(self, now: float) -> list[ReliableMessage]:
        """Messages to give up."""
        return [message for message in self if message.deadline <= now]

    def deadline(self) -> float | None:
        """When to ask L{due} and L{overdue} again."""
        times = [message.deadline for message in self]
        times += [message.due for message in self._flying.values()]
        return min(times, default=None)


class ReliableSender:
    """
    Sends to one peer until it acknowledges.

    @param batch: what was posted before a message leaves before it.
    @param start: as of L{ReliableQueue}.
    """

    __slots__ = ("_batch", "_clock", "_counters", "_keys", "_queue", "_sealer", "_timer", "_trials")

    def __init__(self, sealer: Sealer, batch: BatchSender, start: int, clock: IReactorTime) -> None:
        self._sealer = sealer
        self._batch = batch
        self._keys = batch.keys
        self._queue = ReliableQueue(start)
        self._clock = clock
        self._timer = DeadlineTimer(clock, self._tick)
        self._trials = PathTrials()
        self._counters = sealer.counters

    def __len__(self) -> int:
        return len(self._queue)

    def send(self, service: str, data: bytes, timeout: float) -> Deferred[float]:
        """
        Send until acknowledged.

        @return: Deferred of the round trip in seconds.
        @raise SendRefused: C{busy}.
        """
        now = self._clock.seconds()
        message = ReliableMessage(service, data, now + timeout)
        result: Deferred[float] = Deferred(lambda _: self._finish(message, "cancelled"))
        message.result = result
        self._queue.add(message)
        self._pump(now)
        return result

    def receipt(self, receipt: Receipt) -> None:
        """The peer reports what became of a message."""
        message = self._queue.flying(receipt.message)
        if message is None:
            self._counters["stray-receipt"] += 1
            return
        self._answered(message)
        if receipt.outcome is Outcome.BUSY:
            message.reason = "busy"
        elif receipt.outcome is Outcome.DELIVERED:
            now = self._clock.seconds()
            elapsed = self._queue.answered(message, now)
            message.result.callback(elapsed)
            self._pump(now)
        else:
            self._finish(message, receipt.outcome.slug)
            self._pump(self._clock.seconds())

    def _answered(self, message: ReliableMessage) -> None:
        """Its last transmission is answered; or one before, if this is too soon."""
        path, now = message.path, self._clock.seconds()
        if path is None:
            return
        if message.tries > 1 and now - message.last_sent < self._queue.control.min_rtt:
            self._trials.late(path)
            return
        self._trials.answered(path)
        self._sealer.paths.answered(path, message.last_sent, now)

    def ready(self) -> None:
        """There are keys to seal with."""
        self._pump(self._clock.seconds())

    def bounced(self, counter: int) -> None:
        """A relay did not pass on the frame with this counter."""
        now = self._clock.seconds()
        self._queue.control.dropped(now)
        if self._queue.bounced(counter, now) is not None:
            self._arm(now)

    def fail_all(self, reason: str) -> None:
        """Give up every message."""
        self._timer.cancel()
        for message in self._queue:
            self._finish(message, reason)

    def _finish(self, message: ReliableMessage, reason: str) -> None:
        self._queue.remove(message)
        self._counters[f"failed-{reason}"] += 1
        detail = _DETAILS.get(reason, "{name} is not believed any more: " + reason)
        if not message.result.called:
            message.result.errback(
                SendRefused(reason, detail.format(name=self._keys.peer.name, service=message.service))
            )

    def _pump(self, now: float) -> None:
        """Send what the windows allow, if there are keys; ask for keys if there are none."""
        if len(self._queue) and self._sealer.ready(self._keys):
            self._batch.flush()
            message = self._queue.next()
            while message is not None:
                self._transmit(message, now)
                message = self._queue.next()
        self._arm(now)

    def _transmit(self, message: ReliableMessage, now: float) -> None:
        counters: list[int] = []
        for frame in message.frames:
            counter = self._sealer.send(self._keys, frame)
            if counter is None:
                self._queue.control.dropped(now)
                break
            counters.append(counter)
            message.path = self._keys.sent_by
        if message.reason != "busy":
            message.reason = "timed-out" if self._sealer.routed(self._keys) else "no-route"
        self._queue.sent(message, counters, now)

    def _arm(self, now: float) -> None:
        deadline = self._queue.deadline()
        if deadline is not None:
            self._timer.by(deadline, now)

    def _tick(self) -> None:
        now = self._clock.seconds()
        for message in self._queue.overdue(now):
            self._finish(message, message.reason)
        if not len(self._queue):
            return
        due = self._queue.due(now)
        if due:
            self._resend(due, now)
        self._pump(now)

    def _resend(self, due: Sequence[ReliableMessage], now: float) -> None:
        if not self._sealer.ready(self._keys):
            for message in due:
                message.due = now + self._queue.control.rto
            return
        self._counters["resent"] += len(due)
        if any(not message.fast for message in due):
            self._queue.control.timed_out()
        vain = {message.path: message.last_sent for message in due if self._in_vain(message)}
        for path, sent in vain.items():
            self._sealer.blame(self._keys, path, sent)
        for message in due:
            self._transmit(message, now)

    def _in_vain(self, message: ReliableMessage) -> bool:
        """Whether the path of a message that is not answered is to be left."""
        if message.path is None or message.reason == "busy":
            return False
        lossy = not message.fast and self._trials.lost(message.path)
        return lossy or message.tries - message.fast >= limits.TRIES_BEFORE_BLAME
