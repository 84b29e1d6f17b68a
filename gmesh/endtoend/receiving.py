# SPDX-License-Identifier: MIT
"""
Datagrams of one peer: judged by the policy, put together, handed over once, and answered.

What the peer may reach is asked once and remembered as a callable for each service; then a whole
message without acknowledgement costs a look into its header, a dictionary access and a slice.
Whatever could change the answer empties what is remembered, even between two messages of a frame; only
that this node has lost touch with its authority, which comes with time, is looked for once a second.

The upper half of a message number is another one for each sender and each start of a node, the lower half
counts: so numbers rise, and a window over them remembers what was handed over already.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.internet.interfaces import IReactorTime

from gmesh.endtoend import limits
from gmesh.endtoend.answers import AnswerBudget
from gmesh.endtoend.authorization import Authorization
from gmesh.endtoend.batching import BatchSender
from gmesh.endtoend.reliable import ReliableSender
from gmesh.endtoend.replay import ReplayWindow
from gmesh.endtoend.sealing import Sealer
from gmesh.endtoend.services import Message, Services, Take
from gmesh.endtoend.session import SealedSession
from gmesh.errors import FrameRefused, SendRefused
from gmesh.interfaces import IPeerStreams
from gmesh.mesh.peer_identity import Peer
from gmesh.wire.frames import HEADER, pack_frame
from gmesh.wire.messages import (
    DATAGRAM_HEAD,
    FIRST_STREAM_KIND,
    LAST_STREAM_KIND,
    SEEN_KIND,
    Datagram,
    Inner,
    Mark,
    Outcome,
    Receipt,
)

__all__ = ["DatagramReceiver", "DeliveredNumbers", "Reassembly", "ReassemblyPool"]

PIECE_COST = 128
"""Bytes charged for holding a fragment, beside its data."""

_LASTING = (Outcome.DENIED, Outcome.NO_SUCH_SERVICE)
"""Outcomes that hold until something changes of which the receiver is told."""

_DATAGRAM = int(Inner.DATAGRAM)
_HEAD = DATAGRAM_HEAD.size
_unpack_head = DATAGRAM_HEAD.unpack_from


@dataclass(slots=True)
class _Numbers:
    window: ReplayWindow = field(default_factory=lambda: ReplayWindow(limits.ACK_WINDOW))
    outcomes: OrderedDict[int, Outcome] = field(default_factory=OrderedDict)


class DeliveredNumbers:
    """Which acknowledged messages of one peer were taken, and what was answered. Pure."""

    __slots__ = ("_starts",)

    def __init__(self) -> None:
        self._starts: OrderedDict[int, _Numbers] = OrderedDict()

    def __len__(self) -> int:
        return len(self._starts)

    def seen(self, message: int) -> bool:
        """True if this acknowledged message was taken, or is too old to know."""
        numbers = self._starts.get(message >> 32)
        return numbers is not None and not numbers.window.fresh(message & 0xFFFFFFFF)

    def outcome(self, message: int) -> Outcome | None:
        """What was answered about a message that was taken, if it is known yet."""
        numbers = self._starts.get(message >> 32)
        return None if numbers is None else numbers.outcomes.get(message)

    def take(self, message: int) -> None:
        """Never take this acknowledged message again."""
        start = message >> 32
        numbers = self._starts.get(start)
        if numbers is None:
            numbers = self._starts[start] = _Numbers()
            if len(self._starts) > limits.MAX_SENDER_STARTS:
                self._starts.popitem(last=False)
        numbers.window.mark(message & 0xFFFFFFFF)

    def settle(self, message: int, outcome: Outcome) -> None:
        """Remember what became of it, to answer so again."""
        numbers = self._starts.get(message >> 32)
        if numbers is not None:
            numbers.outcomes[message] = outcome
            if len(numbers.outcomes) > limits.ACK_WINDOW:
                numbers.outcomes.popitem(last=False)


class ReassemblyPool:
    """Bytes that all incomplete datagrams of a node may hold together."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int = limits.MAX_REASSEMBLY_TOTAL) -> None:
        self.limit = limit
        self.used = 0


@dataclass(slots=True)
class _Partial:
    service: str
    count: int
    began: float
    pieces: dict[int, bytes] = field(default_factory=dict)
    size: int = 0
    cost: int = 0


class Reassembly:
    """
    Fragments of one peer's datagrams, put together; all of it bounded. Pure.

    @param pool: shared by all peers of a node.
    @ivar cost: bytes held.
    """

    __slots__ = ("_partial", "_pool", "cost")

    def __init__(self, pool: ReassemblyPool) -> None:
        self._pool = pool
        self._partial: OrderedDict[tuple[bool, int], _Partial] = OrderedDict()
        self.cost = 0

    def assemble(self, datagram: Datagram, now: float) -> bytes | Outcome | None:
        """
        Add a fragment.

        @return: the whole data with the last one; TOO_LARGE; or None while some are missing.
        """
        self._expire(now)
        key = (datagram.want_ack, datagram.message)
        partial = self._partial.get(key)
        if partial is None:
            partial = self._partial[key] = _Partial(datagram.service, datagram.count, now)
        if partial.service != datagram.service or partial.count != datagram.count:
            self._drop(key)
            return None
        if datagram.index in partial.pieces:
            return None
        partial.pieces[datagram.index] = datagram.data
        partial.size += len(datagram.data)
        self._charge(partial, len(datagram.data) + PIECE_COST)
        if partial.size > limits.MAX_DATAGRAM:
            self._drop(key)
            return Outcome.TOO_LARGE
        if len(partial.pieces) == partial.count:
            self._drop(key)
            return b"".join(partial.pieces[index] for index in range(partial.count))
        self._make_room()
        return None

    def clear(self) -> None:
        """Forget incomplete datagrams."""
        while self._partial:
            self._drop(next(iter(self._partial)))

    def _charge(self, partial: _Partial, cost: int) -> None:
        partial.cost += cost
        self.cost += cost
        self._pool.used += cost

    def _drop(self, key: tuple[bool, int]) -> None:
        partial = self._partial.pop(key)
        self._charge(partial, -partial.cost)

    def _expire(self, now: float) -> None:
        while self._partial:
            key, partial = next(iter(self._partial.items()))
            if now - partial.began < limits.REASSEMBLY_TIME:
                return
            self._drop(key)

    def _make_room(self) -> None:
        while self._partial and (
            len(self._partial) > limits.MAX_REASSEMBLIES
            or self.cost > limits.MAX_REASSEMBLY_BYTES
            or self._pool.used > self._pool.limit
        ):
            self._drop(next(iter(self._partial)))


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
        "_reassembly",
        "_reliable",
        "_services",
        "_takes",
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
        self._lapsed = False
        self._look = 0.0
        self._closed = False
        self._budget = AnswerBudget(clock.seconds())
        self._asked: bytes | None = None
        self._dropped = 0

    def opened(self, session: SealedSession, plaintext: bytes) -> None:
        """
        The inner frames of one sealed frame. A malformed one ends this frame only.

        @param session: opened it, and proved who the peer is.
        """
        peer, start, end = session.peer, 0, len(plaintext)
        if end > 2 and FIRST_STREAM_KIND <= plaintext[2] <= LAST_STREAM_KIND:
            start = self._stream_frames(session, plaintext)
        if self._peer is not peer or self._clock.seconds() >= self._look:
            self._look_again(peer)
        takes = self._takes
        while end - start >= _HEAD:
            length, kind, flags, _, name = _unpack_head(plaintext, start)
            data = start + _HEAD + name
            following = start + 3 + length
            if kind == _DATAGRAM and not flags and data <= following <= end:
                take = takes.get(plaintext[start + _HEAD : data])
                if take is not None:
                    take(plaintext[data:following])
                    start = following
                    continue
            if not self._one(peer, plaintext, start, following):
                return
            start = following
        if start != end:
            self._rest(peer, plaintext, start)
        if self._asked is not None:
            body, self._asked = self._asked, None
            seen = b"" if self.streams is None else self.streams.seen()
            self._reply(seen + pack_frame(Inner.ACK, body), alone=True)

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
        if not self._budget.work(self._clock.seconds()):
            self._counters["answers-spent"] += 1
            return False
        kind, body = plaintext[start + 2], plaintext[start + HEADER.size : end]
        try:
            if kind == Inner.DATAGRAM:
                self._datagram(peer, Datagram.decode(body))
            elif kind == Inner.RECEIPT:
                self._reliable.receipt(Receipt.decode(body))
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

    def _datagram(self, peer: Peer, datagram: Datagram) -> None:
        """One datagram, or a fragment of one."""
        numbers = self.numbers
        if datagram.want_ack and numbers.seen(datagram.message):
            self._counters["repeated"] += 1
            outcome = numbers.outcome(datagram.message)
            if outcome is not None and datagram.index == datagram.count - 1:
                self._answer(datagram.message, outcome)
            return
        outcome = self._refusal(peer, datagram)
        data: bytes | Outcome | None = outcome
        if outcome is None:
            data = datagram.data
            if datagram.count > 1:
                data = self._reassembly.assemble(datagram, self._clock.seconds())
        if isinstance(data, bytes):
            outcome = self._services.refusal(datagram.service, len(data))
            if outcome is None:
                self._hand(peer, datagram, data)
                return
            data = outcome
        if data is not None:
            self._not_taken(data)
            if not datagram.want_ack:
                self._drop_others(datagram.service, data)
            elif datagram.index == datagram.count - 1 and (
                data is not Outcome.DENIED or self._budget.deny(self._clock.seconds())
            ):
                self._answer(datagram.message, data)

    def _drop_others(self, service: str, outcome: Outcome) -> None:
        """Whatever else comes for this service, and nobody waits for, is only counted."""
        if outcome in _LASTING and self._dropped < limits.MAX_DROPPED_SERVICES:
            self._dropped += 1
            self._takes[service.encode("ascii")] = lambda data: self._not_taken(outcome)

    def _refusal(self, peer: Peer, datagram: Datagram) -> Outcome | None:
        if not self._authorization.accepts(peer, datagram.service):
            return Outcome.DENIED
        return self._services.refusal(datagram.service, len(datagram.data))

    def _hand(self, peer: Peer, datagram: Datagram, data: bytes) -> None:
        numbers = self.numbers
        if datagram.want_ack:
            numbers.take(datagram.message)
        else:
            self._takes[datagram.service.encode("ascii")] = self._services.taker(
                peer, datagram.service, self._not_taken
            )

        def done(outcome: Outcome) -> None:
            if outcome is not Outcome.DELIVERED:
                self._not_taken(outcome)
            if datagram.want_ack:
                numbers.settle(datagram.message, outcome)
                self._answer(datagram.message, outcome)

        message = Message(peer.name, peer.node_id, peer.roles, datagram.service, data)
        self._services.deliver(message, done)

    def _not_taken(self, outcome: Outcome) -> None:
        self._counters[f"inbound-{outcome.slug}"] += 1

    def _answer(self, message: int, outcome: Outcome) -> None:
        self._reply(pack_frame(Inner.RECEIPT, Receipt(message, outcome).encode()))

    def _reply(self, frame: bytes, alone: bool = False) -> None:
        """@param alone: no more answers are to be expected in this turn."""
        if self._closed:
            return  # the peer repeats its message, if it comes back, and is answered then
        try:
            (self._batch.send if alone else self._batch.put)(frame)
        except SendRefused:
            self._counters["reply-lost"] += 1
