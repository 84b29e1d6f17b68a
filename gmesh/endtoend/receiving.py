# SPDX-License-Identifier: MIT
"""
Datagrams of one peer: judged by the policy, put together, handed over once, and answered.

An acknowledged message is answered with its outcome if its receiver is soon done with it, else TAKEN and the
outcome later.  Each number has one outcome for ever; what found no room comes again under another number.

What the peer may reach is asked once and remembered as a callable for each service; then a whole
message without acknowledgement costs a look into its header, a dictionary access and a slice.
Whatever could change the answer empties what is remembered, even between two messages of a frame; only
that this node has lost touch with its authority, which comes with time, is looked for once a second.
Tests: C{tests/endtoend/test_datagrams.py}, C{tests/endtoend/test_outcomes.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from twisted.internet.interfaces import IReactorTime

from gmesh.endtoend import limits
from gmesh.endtoend.answers import AnswerBudget
from gmesh.endtoend.authorization import Authorization
from gmesh.endtoend.batching import BatchSender
from gmesh.endtoend.delivered_numbers import DeliveredNumbers
from gmesh.endtoend.outcome_reporter import OutcomeReporter
from gmesh.endtoend.reassembly import Reassembly, ReassemblyPool
from gmesh.endtoend.reliable import ReliableSender
from gmesh.endtoend.sealing import Sealer
from gmesh.endtoend.service_queue import Delivery
from gmesh.endtoend.services import Message, Services, Take
from gmesh.endtoend.session import SealedSession
from gmesh.errors import FrameRefused, SendRefused
from gmesh.interfaces import IPeerStreams
from gmesh.mesh.peer_identity import Peer
from gmesh.wire.frames import HEADER, pack_frame
from gmesh.wire.messages import (
    DATAGRAM_HEAD,
    FIRST_STREAM_KIND,
    FLAG_OUTCOME,
    LAST_STREAM_KIND,
    SEEN_KIND,
    Datagram,
    Inner,
    Mark,
    MessageNumbers,
    MessageOutcome,
    Outcome,
    Receipt,
)

__all__ = ["DatagramReceiver"]

_LASTING = (Outcome.DENIED, Outcome.NO_SUCH_SERVICE)
"""Outcomes that hold until something changes of which the receiver is told."""

_DELIVERED = Outcome.DELIVERED  # a member of an Enum is looked up by a function in Python 3.11
_DATAGRAM, _DELIVERED_LIST = int(Inner.DATAGRAM), int(Inner.DELIVERED)
_HEAD = DATAGRAM_HEAD.size
_LISTED = {int(kind): 8 * 16 for kind in (Inner.TAKEN, Inner.SETTLED, Inner.WAITING, Inner.DELIVERED)}
_LISTED[int(Inner.CANCELLED)] = 8 * 4
"""Bytes of a list of numbers that cost as much as another frame: each that is given up is remembered."""
_new = tuple.__new__
_unpack_head = DATAGRAM_HEAD.unpack_from


class DatagramReceiver:
    """
    What one peer sends to this node.

    @param batch: the way back, for receipts.
    @param reliable: learns what the peer reports of messages of ours.
    @param numbers: what the peer sent before, if it was here before.
    @param pool: as of L{Reassembly}.
    @ivar streams: takes its byte streams, if there have been any.
    @ivar begin_streams: asked for C{streams} with the peer's handle when the first frame of one comes.
    """

    __slots__ = (
        "_accepted",
        "_asked",
        "_authorization",
        "_batch",
        "_budget",
        "_clock",
        "_closed",
        "_counters",
        "_dropped",
        "_lapsed",
        "_look",
        "_peer",
        "_queued",
        "_reassembly",
        "_reliable",
        "_reporter",
        "_services",
        "_takes",
        "_turn",
        "begin_streams",
        "numbers",
        "streams",
    )

    def __init__(
        self,
        batch: BatchSender,
        reliable: ReliableSender,
        services: Services,
        authorization: Authorization,
        sealer: Sealer,
        numbers: DeliveredNumbers,
        pool: ReassemblyPool,
        clock: IReactorTime,
    ) -> None:
        self.numbers = numbers
        self.streams: IPeerStreams | None = None
        self.begin_streams: Callable[[bytes], IPeerStreams | None] = lambda handle: None
        self._batch = batch
        self._reliable = reliable
        self._services = services
        self._authorization = authorization
        self._counters = sealer.counters
        self._reassembly = Reassembly(pool)
        self._clock = clock
        self._peer = batch.keys.peer
        self._takes: dict[bytes, Take] = {}
        self._accepted: dict[bytes, str] = {}  # services that the peer may use, by the bytes of their names
        self._lapsed = False
        self._look = 0.0
        self._closed = False
        self._budget = AnswerBudget(clock.seconds())
        self._asked: bytes | None = None
        self._dropped = 0
        self._turn = sealer.turn
        self._reporter = OutcomeReporter(batch, sealer, clock)
        self._queued: dict[int, Delivery] = {}  # what waits here for its receiver, and was not handed over

    @property
    def idle(self) -> bool:
        """True if nothing of the peer is held, and it knows what became of what was."""
        return self._reporter.idle and not self.numbers.held

    def opened(self, session: SealedSession, plaintext: bytes) -> None:
        """
        The inner frames of one sealed frame. A malformed one ends this frame only.

        @param session: opened it, and proved who the peer is.
        """
        turn = self._turn
        began = turn.hold()
        try:
            self._read(session, plaintext)
        finally:
            if began:
                turn.release()

    def _read(self, session: SealedSession, plaintext: bytes) -> None:
        peer, start, end = session.peer, 0, len(plaintext)
        if end > 2 and FIRST_STREAM_KIND <= plaintext[2] <= LAST_STREAM_KIND:
            start = self._stream_frames(session, plaintext)
        if self._peer is not peer or self._clock.seconds() >= self._look:
            self._look_again(peer)
        takes, accepted, work, now = self._takes, self._accepted, self._budget.work, self._clock.seconds()
        while end - start >= _HEAD:
            length, kind, flags, message, size = _unpack_head(plaintext, start)
            data = start + _HEAD + size
            following = start + 3 + length
            if kind == _DATAGRAM and data <= following <= end:
                name = plaintext[start + _HEAD : data]
                if not flags:
                    take = takes.get(name)
                    if take is not None:
                        take(plaintext[data:following])
                        start = following
                        continue
                elif flags == FLAG_OUTCOME and name in accepted and not self._closed and work(now):
                    self._whole(peer, accepted[name], message, plaintext[data:following])
                    start = following
                    continue
            if not self._one(peer, plaintext, start, following):
                return
            start = following
        if start != end:
            self._rest(peer, plaintext, start)
        self._reporter.flush()
        if self._asked is not None:
            body, self._asked = self._asked, None
            seen = b"" if self.streams is None else self.streams.seen()
            self._reply(seen + pack_frame(Inner.ACK, body), last=True)

    def ask_again(self) -> None:
        """What is allowed, believed or registered changed."""
        self._look = 0.0
        self._forget_takes()

    def forget(self) -> None:
        """The keys are gone: incomplete messages will not be completed."""
        self._forget_takes()
        self._reassembly.clear()

    def close(self) -> None:
        """Take no more and answer no more, not even what is left of the frame that is being read."""
        self._closed = True
        self._reporter.close()
        self.forget()

    def _look_again(self, peer: Peer) -> None:
        """What is remembered of C{peer} holds as long as this node is in touch with its authority, or not."""
        lapsed = self._authorization.lapsed()
        if lapsed is not self._lapsed or self._peer is not peer:
            self._lapsed = lapsed
            self._peer = peer
            self._forget_takes()
        self._look = self._clock.seconds() + limits.AUTHORIZATION_LIFE

    def _forget_takes(self) -> None:
        self._takes.clear()
        self._accepted.clear()
        self._dropped = 0

    def _stream_frames(self, session: SealedSession, plaintext: bytes) -> int:
        """
        Frames of streams, which stand first. @return: where others begin.

        Those of a former start of the peer, which may come late, are not those of now.
        """
        streams, current = self.streams, self._batch.keys.current
        if self._closed:
            return 0
        if session is not current and current is not None and session.boot != current.boot:
            self._counters["stream-of-former-start"] += 1
            return len(plaintext)
        if streams is None:
            streams = self.begin_streams(session.peer.handle)
        return 0 if streams is None else streams.received(session.peer, plaintext)

    def _rest(self, peer: Peer, plaintext: bytes, start: int) -> None:
        """Inner frames shorter than the head of a datagram."""
        end = len(plaintext)
        while end - start >= HEADER.size:
            length, _ = HEADER.unpack_from(plaintext, start)
            following = start + HEADER.size + length
            if not self._one(peer, plaintext, start, following):
                return
            start = following
        if start != end:
            self._counters["inner-malformed"] += 1

    def _one(self, peer: Peer, plaintext: bytes, start: int, end: int) -> bool:
        """One inner frame of any kind. @return: False if nothing more of this plaintext counts."""
        if self._closed:
            self._counters["inbound-gone"] += 1
            return False
        if end > len(plaintext):
            self._counters["inner-malformed"] += 1
            return False
        kind, body = plaintext[start + 2], plaintext[start + HEADER.size : end]
        cost = 1 + len(body) // _LISTED[kind] if kind in _LISTED else 1
        if not self._budget.work(self._clock.seconds(), cost):
            self._counters["answers-spent"] += 1
            return False
        try:
            if kind == _DELIVERED_LIST:
                self._reporter.settled(self._reliable.delivered(MessageNumbers.decode(body).messages))
            elif kind == Inner.DATAGRAM:
                self._datagram(peer, Datagram.decode(body))
            elif kind == Inner.RECEIPT:
                self._reliable.receipt(Receipt.decode(body))
            elif kind == Inner.OUTCOME:
                ending = MessageOutcome.decode(body)
                if self._reliable.ending(ending):
                    self._reporter.settled((ending.message,))
            elif kind == Inner.TAKEN:
                self._reliable.taken(MessageNumbers.decode(body).messages)
            elif kind == Inner.SETTLED:
                self._reporter.confirmed(MessageNumbers.decode(body).messages)
            elif kind == Inner.WAITING:
                for message in filter(self._pays, MessageNumbers.decode(body).messages):
                    self._say(message)
            elif kind == Inner.CANCELLED:
                self._cancelled(MessageNumbers.decode(body).messages)
            elif kind == Inner.ASK:
                Mark.decode(body)
                self._asked = body  # the last one of a sealed frame says it all
            elif kind == Inner.ACK:
                self._batch.reached(Mark.decode(body).mark)
            elif kind == SEEN_KIND and self.streams is not None:
                self.streams.received_seen(body)
            else:
                self._counters["unknown-inner"] += 1
        except FrameRefused as refusal:
            self._counters[f"inner-{refusal.reason}"] += 1
        return True

    def _whole(self, peer: Peer, service: str, number: int, data: bytes) -> None:
        """A whole message without a key, to a service that the peer may use; its sender wants the outcome."""
        numbers = self.numbers
        if len(numbers.held) < limits.MAX_HELD and numbers.takes(number):
            message = (peer.name, peer.node_id, peer.roles, service, data, "", False)
            self._hold(number, _new(Message, message))
        elif numbers.seen(number):
            self._counters["repeated"] += 1
            self._say(number, unknown=False)
        else:
            self._counted(Outcome.BUSY)
            self._refuse(number, Outcome.BUSY)

    def _datagram(self, peer: Peer, datagram: Datagram) -> None:
        """One datagram, or a fragment of one."""
        last = datagram.index == datagram.count - 1
        if datagram.answered and self.numbers.seen(datagram.message):
            self._counters["repeated"] += 1
            if last:
                self._say_again(datagram)
            return
        outcome = self._refusal(peer, datagram)
        data: bytes | Outcome | None = outcome
        if outcome is None:
            data = datagram.data
            if datagram.count > 1:
                data = self._reassembly.assemble(datagram, self._clock.seconds())
        if isinstance(data, bytes):
            service, waits = datagram.service, datagram.answered
            outcome = self._services.refusal(service, len(data), peer.node_id, waits)
            if outcome is None:
                self._hand(peer, datagram, data)
                return
            data = outcome
        if data is not None:
            self._counted(data)
            if not datagram.answered:
                self._drop_others(datagram.service, data)
            elif last and (data is not Outcome.DENIED or self._budget.deny(self._clock.seconds())):
                if datagram.outcome:
                    self._refuse(datagram.message, data)
                else:
                    self._reply(pack_frame(Inner.RECEIPT, Receipt(datagram.message, data).encode()))

    def _say_again(self, datagram: Datagram) -> None:
        """The answer about a message that was taken, and comes again, was lost."""
        if datagram.outcome:
            self._say(datagram.message, unknown=False)
            return
        outcome = self.numbers.outcome(datagram.message)
        if outcome is not None:
            self._reply(pack_frame(Inner.RECEIPT, Receipt(datagram.message, outcome).encode()))

    def _say(self, message: int, unknown: bool = True) -> None:
        """What became of a message, or that it is held. @param unknown: or that there is none."""
        ending = self._reporter.told(message) or self.numbers.ending(message)
        if message in self.numbers.held:
            self._reporter.taken(message)
        elif ending is not None:
            self._reporter.tell(ending, confirmed=False)
        elif unknown:
            self._reporter.tell(MessageOutcome(message, Outcome.UNKNOWN), confirmed=False)

    def _pays(self, message: int) -> bool:
        """Each message that the peer asks about costs an answer: of the others it asks again."""
        pays = self._budget.work(self._clock.seconds())
        if not pays:
            self._counters["answers-spent"] += 1
        return pays

    def _refuse(self, number: int, outcome: Outcome) -> None:
        """Answer that a message is not taken; what follows under its number is answered alike."""
        self.numbers.take(number)
        self._reporter.tell(self.numbers.settle(number, outcome), confirmed=False)

    def _drop_others(self, service: str, outcome: Outcome) -> None:
        """Whatever else comes for this service, and nobody waits for, is only counted."""
        if outcome in _LASTING and self._dropped < limits.MAX_DROPPED_SERVICES:
            self._dropped += 1
            self._takes[service.encode("ascii")] = lambda data: self._not_taken(outcome)

    def _refusal(self, peer: Peer, datagram: Datagram) -> Outcome | None:
        """Why it is not taken; that it was acknowledged already is a reason, too."""
        service = datagram.service
        if not self._authorization.accepts(peer, service):
            return Outcome.DENIED
        if datagram.key and self._services.known(peer.node_id, service, datagram.key):
            return Outcome.DELIVERED
        if datagram.answered and len(self.numbers.held) >= limits.MAX_HELD:
            return Outcome.BUSY
        return self._services.refusal(service, len(datagram.data), peer.node_id, datagram.answered)

    def _hand(self, peer: Peer, datagram: Datagram, data: bytes) -> None:
        message = Message(
            peer.name,
            peer.node_id,
            peer.roles,
            datagram.service,
            data,
            datagram.key,
            datagram.again,
        )
        if not datagram.answered:
            self._takes[datagram.service.encode("ascii")] = self._services.taker(
                peer, datagram.service, self._not_taken
            )
            self._services.deliver(message, lambda outcome, said, answer: self._counted(outcome))
        elif datagram.outcome:
            self._accepted[datagram.service.encode("ascii")] = datagram.service
            self.numbers.take(datagram.message)
            self._hold(datagram.message, message)
        else:
            self._receipt(datagram.message, message)

    def _hold(self, number: int, message: Message) -> None:
        """A message that was taken, whose sender waits for what its receiver comes to."""
        self._reporter.holds(number)
        waits = self._services.deliver(message, partial(self._ended, number))
        if waits is not None:
            self._queued[number] = waits

    def _ended(self, number: int, outcome: Outcome, said: str, answer: bytes) -> None:
        """What became of a message whose sender waits for that."""
        reporter = self._reporter
        if self._queued:
            self._queued.pop(number, None)
        if outcome is _DELIVERED and not answer:
            self.numbers.delivered(number)
            if not self._closed:  # else the peer asks, if it comes back
                reporter.delivered(number)
            return
        self._counted(outcome)
        ending = self.numbers.settle(number, outcome, said)
        if not self._closed:
            told = reporter.ended(number)
            reporter.tell(ending._replace(answer=answer), confirmed=told or bool(answer))

    def _cancelled(self, numbers: Sequence[int]) -> None:
        """The sender waits for these no more: what was not handed over is not handed over at all."""
        for number in numbers:
            waits = self._queued.pop(number, None)
            if waits is not None:
                if self._services.withdraw(waits):
                    self._reporter.ended(number)
                    self.numbers.settle(number, Outcome.REFUSED)
            elif self.numbers.takes(number):  # it has not come, or not whole: it may be under way
                self.numbers.settle(number, Outcome.REFUSED)

    def _receipt(self, number: int, message: Message) -> None:
        """The sender, an older one, waits until it is handed over."""
        numbers = self.numbers
        numbers.take(number)

        def answer(outcome: Outcome) -> None:
            if number in numbers.held:
                self._counted(outcome)
                numbers.settle(number, outcome)
                self._reply(pack_frame(Inner.RECEIPT, Receipt(number, outcome).encode()))

        self._services.deliver(
            message, lambda outcome, said, _: answer(outcome), lambda: answer(Outcome.DELIVERED)
        )

    def _counted(self, outcome: Outcome) -> None:
        """What did not become of a message of the peer is a number among others."""
        if outcome is not Outcome.DELIVERED:
            self._not_taken(outcome)

    def _not_taken(self, outcome: Outcome) -> None:
        self._counters[f"inbound-{outcome.slug}"] += 1

    def _reply(self, frame: bytes, last: bool = False) -> None:
        """@param last: no more answers are to be expected in this turn."""
        if self._closed:
            return  # the peer repeats its message, if it comes back, and is answered then
        try:
            self._batch.answer(frame, last)
        except SendRefused:
            self._counters["reply-lost"] += 1
