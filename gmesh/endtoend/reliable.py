# SPDX-License-Identifier: MIT
"""
Acknowledged messages to one peer: sent within a window, repeated until taken, given up in time.

The first of a reactor turn leaves at once; those that follow in the same turn leave together at its end, as
many in a sealed frame as L{BatchSender.limit} allows.  While a reader holds its end, all leave then
(L{gmesh.endtoend.turn_end}).
The retransmission timer is that of RFC 6298; the round trip is measured in L{gmesh.endtoend.congestion}.
Tests: C{tests/endtoend/test_reliable.py}, C{tests/endtoend/test_outcomes.py}.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from gmesh.endtoend import limits
from gmesh.endtoend.batching import BatchSender
from gmesh.endtoend.deadline_timer import DeadlineTimer
from gmesh.endtoend.path_trials import PathTrials
from gmesh.endtoend.reliable_queue import Delivered, ReliableMessage, ReliableQueue, Told, encode_datagram
from gmesh.endtoend.sealing import Sealer
from gmesh.endtoend.turn_end import together
from gmesh.errors import SendRefused
from gmesh.wire.frames import pack_frame
from gmesh.wire.limits import MAX_NUMBERS
from gmesh.wire.messages import Inner, MessageNumbers, MessageOutcome, Outcome, Receipt

__all__ = ["ReliableSender"]

_DETAILS = {
    "timed-out": "{name} did not acknowledge in time",
    "no-route": "no path to {name} at present",
    "busy": "the receiver of {service} at {name} is busy",
    "no-such-service": "{name} has no receiver for {service}",
    "receiver-gone": "the receiver of {service} at {name} ended before it was done with the message",
    "no-keys": "{name} runs an older version, which knows no keys of messages",
    "denied": "{name} denies {service}: its policy forbids it, or it has lost touch with the authority",
    "refused": "the receiver of {service} at {name} refused or failed",
    "too-large": "the message is too large for {name}",
    "revoked": "the node {name} is revoked",
    "expired": "the certificate of {name} has expired and no newer one arrived",
    "cancelled": "the caller gave up",
    "stopped": "this node is stopping",
}
_new = tuple.__new__
_NOT_DONE = "{name} has the message, but the receiver of {service} was not done with it in time"


class ReliableSender:
    """
    Sends to one peer until it acknowledges.

    @param batch: what was posted before a message leaves before it.
    @param start: as of L{ReliableQueue}.
    """

    __slots__ = (
        "_batch",
        "_call",
        "_cancelled",
        "_clock",
        "_counters",
        "_keys",
        "_queue",
        "_read",
        "_reported",
        "_sealer",
        "_timer",
        "_trials",
        "_turn",
    )

    def __init__(self, sealer: Sealer, batch: BatchSender, start: int, clock: IReactorTime) -> None:
        self._sealer = sealer
        self._batch = batch
        self._keys = batch.keys
        self._queue = ReliableQueue(start)
        self._call: IDelayedCall | None = None
        self._turn = sealer.turn
        self._read = False  # is called at the end of what is read
        self._clock = clock
        self._timer = DeadlineTimer(clock, self._tick)
        self._trials = PathTrials()
        self._cancelled: list[
            int
        ] = []  # numbers of messages that were given up, and the peer is not told yet
        self._reported: tuple[tuple[bytes, ...], float] | None = None
        self._counters = sealer.counters

    def __len__(self) -> int:
        return len(self._queue)

    def send(self, service: str, data: bytes, timeout: float, key: str = "") -> Deferred[Delivered]:
        """
        Send until its receiver is done with it.

        @return: Deferred of L{Delivered}.
        @raise SendRefused: C{busy}.
        """
        result: Deferred[Delivered] = Deferred(lambda _: message.cancel())
        message = self.begin(service, data, timeout, key, lambda became: _fire(result, became))
        return result

    def begin(self, service: str, data: bytes, timeout: float, key: str, told: Told) -> ReliableMessage:
        """
        As L{send}, without a Deferred.

        @param told: called later with what became of it.
        @return: its C{cancel} gives it up, and does nothing once it has ended.
        @raise SendRefused: C{busy}.
        """
        now = self._clock.seconds()
        deadline = now + timeout
        message = ReliableMessage(service, data, deadline, key, told, self._give_up)
        self._queue.add(message)
        if deadline < self._timer.at:
            self._timer.by(deadline, now)
        if self._turn.held:
            if not self._read:
                self._soon()
        elif self._call is None:
            self._soon()
            self._pump(now)
        return message

    def receipt(self, receipt: Receipt) -> None:
        """A peer that tells no more says what became of a message: it was handed over, or why it was not."""
        message = self._queue.flying(receipt.message)
        if message is None:
            self._counters["stray-receipt"] += 1
            return
        self._answered((message,), self._clock.seconds())
        if receipt.outcome is Outcome.BUSY:
            message.reason = "busy"
        else:
            self._ended(message, receipt.outcome)

    def taken(self, numbers: Sequence[int]) -> None:
        """The peer holds these messages."""
        queue, now, taken = self._queue, self._clock.seconds(), list[ReliableMessage]()
        for number in dict.fromkeys(numbers):  # a hostile peer may name one twice
            message = queue.find(number)
            if message is None:
                self._counters["stray-receipt"] += 1
            elif not message.held:
                taken.append(message)
        if taken:
            self._answered(taken, now)
            queue.taken(taken, now)
            self._timer.by(taken[0].due, now)
        self._goes_on()

    def ending(self, ending: MessageOutcome) -> bool:
        """
        The peer is done with a message, or does not hold it.

        @return: True if it is to be confirmed: the peer repeats it until then.
        """
        queue, now, outcome = self._queue, self._clock.seconds(), ending.outcome
        message = queue.find(ending.message)
        if message is None:
            self._counters["stray-receipt"] += 1
            return True
        held = message.held
        if outcome is Outcome.UNKNOWN and held and not queue.asked(message):
            self._counters["stray-receipt"] += 1
            return False
        if not held:
            self._answered((message,), now)
        absent = outcome is Outcome.NO_SUCH_SERVICE
        if absent and held:  # it was waited for there, in vain
            queue.missing(message)
        absent = absent and queue.returns(message.service, now)
        if outcome is Outcome.UNKNOWN and held:
            self._counters["sent-anew"] += 1
            queue.lost(message)
        elif outcome is Outcome.BUSY or absent:
            message.reason = outcome.slug
            queue.back(message, now)
        else:
            self._ended(message, outcome, ending.reason, ending.answer)
            return held or bool(ending.answer)
        self._goes_on()
        until = queue.pauses(message)
        if until > now:
            self._timer.by(until, now)
        return held

    def delivered(self, numbers: Sequence[int]) -> list[int]:
        """As L{ending}, of messages whose receivers have ended well and give nothing back."""
        queue, now = self._queue, self._clock.seconds()
        ended, confirmed = list[ReliableMessage](), list[int]()
        for number in dict.fromkeys(numbers):
            message = queue.find(number)
            if message is None:
                self._counters["stray-receipt"] += 1
                confirmed.append(number)
            else:
                ended.append(message)
                if message.held:
                    confirmed.append(number)
        self._answered([message for message in ended if not message.held], now)
        queue.answered(ended, now)
        for message in ended:
            message.told(_new(Delivered, (now - message.first_sent, b"")))
        self._goes_on()
        return confirmed

    def _ended(
        self, message: ReliableMessage, outcome: Outcome, reason: str = "", answer: bytes = b""
    ) -> None:
        now = self._clock.seconds()
        if outcome is Outcome.DELIVERED:
            self._queue.answered((message,), now)
            message.told(Delivered(now - message.first_sent, answer))
        else:
            self._queue.arrived((message,), now)
            self._finish(message, outcome.slug, reason)
        self._goes_on()

    def _answered(self, messages: Sequence[ReliableMessage], now: float) -> None:
        """Their last transmissions are answered; or ones before, if this is too soon."""
        trials = self._trials
        for message in messages:
            path, sent = message.path, message.last_sent
            if path is None:
                continue
            if message.tries > 1 and now - sent < self._queue.control.min_rtt:
                trials.late(path)
                continue
            trials.answered(path)
            if (path, sent) != self._reported:  # of what left together one answer says as much as all
                self._reported = path, sent
                self._sealer.paths.answered(path, sent, now)

    def ready(self) -> None:
        """There are keys to seal with."""
        self._pump(self._clock.seconds())

    def bounced(self, counter: int) -> None:
        """A relay did not pass on the frame with this counter."""
        now = self._clock.seconds()
        self._queue.control.dropped(now)
        if self._queue.bounced(counter, now):
            self._arm(now)

    def fail_all(self, reason: str) -> None:
        """Give up every message."""
        for message in self._queue:
            self._finish(message, reason)
        self._timer.cancel()
        self._cancelled.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _give_up(self, message: ReliableMessage, reason: str) -> None:
        """This end ends it, for whatever reason: the peer, which may have it, is to hand it over no more."""
        if message.order and message.number >= 0:
            self._cancelled.append(message.number)
            self._soon()
        self._finish(message, reason)

    def _finish(self, message: ReliableMessage, reason: str, said: str = "") -> None:
        """@param said: what the receiver says, if it says something."""
        if not message.order:
            return
        detail = _DETAILS.get(reason, "{name} is not believed any more: " + reason)
        if message.held and reason == "timed-out":
            detail = _NOT_DONE
        self._queue.remove(message)
        self._counters[f"failed-{reason}"] += 1
        text = detail.format(name=self._keys.peer.name, service=message.service)
        message.told(SendRefused(reason, f"{text}: {said}" if said else text))

    def _pump(self, now: float) -> None:
        """Send what the windows allow, if there are keys; ask for keys if there are none."""
        if self._cancelled:
            cancelled, self._cancelled = self._cancelled, []
            if self._keys.sealer(now) is not None:
                self._tell(Inner.CANCELLED, cancelled)
        queue = self._queue
        if queue.empty or not self._sealer.ready(self._keys):
            return
        message = queue.next(now)
        if message is None:
            return
        self._batch.flush()
        knows, limit = self._sealer.tells_outcomes(self._keys), self._batch.limit
        group: list[ReliableMessage] = []
        size = 0
        while message is not None:
            if self._encode(message, knows):
                frames = message.frames
                more = len(frames[0]) if len(frames) == 1 else sum(map(len, frames))
                if group and size + more > limit:
                    self._transmit(group, now)
                    group, size = [], 0
                group.append(message)
                size += more
            message = queue.next(now)
        if group:
            self._transmit(group, now)

    def _goes_on(self) -> None:
        """There may be room for messages that wait."""
        if self._queue.waiting:
            self._soon()

    def _soon(self) -> None:
        """Send at the end of this turn, or of what is read in it, what is there by then."""
        if self._turn.held:
            if not self._read:
                self._read = True
                self._turn.then(self._leave)
        elif self._call is None:
            self._call = self._clock.callLater(0, self._turn_over)

    def _turn_over(self) -> None:
        self._call = None
        self._pump(self._clock.seconds())

    def _leave(self) -> None:
        """All was read: what that made leaves, and in as few records of the link as hold it."""
        self._read = False
        together(self._sealer.link(self._keys), partial(self._pump, self._clock.seconds()))

    def _encode(self, message: ReliableMessage, knows: bool) -> bool:
        """
        Write a message under its new number, as this peer understands it.

        @param knows: it tells what becomes of messages.
        @return: False if it cannot be.
        """
        if message.key and not knows:
            self._finish(message, "no-keys")
            return False
        message.frames = encode_datagram(
            message.service,
            message.number,
            message.data,
            not knows,
            knows,
            message.key,
            message.again and knows,
        )
        return True

    def _transmit(self, group: Sequence[ReliableMessage], now: float) -> None:
        """Send messages that share a sealed frame, or one alone, in as many as it has pieces."""
        first, counters, path = group[0], list[int](), None
        whole = [frame for message in group for frame in message.frames]
        for plaintext in whole if len(group) == 1 else (b"".join(whole),):
            counter = self._sealer.send(self._keys, plaintext)
            if counter is None:
                self._queue.control.dropped(now)
                break
            counters.append(counter)
            path = self._keys.sent_by
        reason = "timed-out" if self._sealer.routed(self._keys) else "no-route"
        for message in group:
            if path is not None:
                message.path = path
            if message.reason != reason and message.reason in ("timed-out", "no-route"):
                message.reason = reason
        self._queue.sent(group, counters, now)
        self._timer.by(first.due, now)

    def _arm(self, now: float) -> None:
        deadline = self._queue.deadline(now)
        if deadline is not None:
            self._timer.by(deadline, now)

    def _tick(self) -> None:
        now = self._clock.seconds()
        for message in self._queue.overdue(now):
            self._give_up(message, message.reason)
        if self._queue.empty:
            return
        due = self._queue.due(now)
        if due:
            self._resend(due, now)
        self._ask(now)
        self._pump(now)
        self._arm(now)

    def _ask(self, now: float) -> None:
        """A peer that was restarted does not know what it held."""
        numbers = self._queue.to_ask(now)
        if numbers and self._sealer.ready(self._keys):
            self._tell(Inner.WAITING, numbers)

    def _tell(self, kind: Inner, numbers: Sequence[int]) -> None:
        for first in range(0, len(numbers), MAX_NUMBERS):
            listed = MessageNumbers(tuple(numbers[first : first + MAX_NUMBERS])).encode()
            try:
                self._batch.put(pack_frame(kind, listed))
            except SendRefused:
                self._counters["reply-lost"] += 1

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
            self._transmit([message], now)

    def _in_vain(self, message: ReliableMessage) -> bool:
        """Whether the path of a message that is not answered is to be left."""
        if message.path is None or message.reason == "busy":
            return False
        lossy = not message.fast and self._trials.lost(message.path)
        return lossy or message.tries - message.fast >= limits.TRIES_BEFORE_BLAME


def _fire(result: Deferred[Delivered], became: Delivered | SendRefused) -> None:
    if result.called:
        return
    if isinstance(became, SendRefused):
        result.errback(became)
    else:
        result.callback(became)
