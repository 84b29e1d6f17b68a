# SPDX-License-Identifier: MIT
"""
One association per far node: everything this node holds of it, in one object and one table.

Keys and paths, what is sent in batches, what is sent reliably, what is received, and what waits for keys:
when the node is given up, it is one C{del}, and all of that goes in the same reactor turn.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator

from twisted.internet.interfaces import IReactorTime

from gmesh.endtoend import limits
from gmesh.endtoend.authorization import Authorization
from gmesh.endtoend.batching import CLOSED, BatchSender
from gmesh.endtoend.deadline_timer import DeadlineTimer
from gmesh.endtoend.delivered_numbers import DeliveredNumbers
from gmesh.endtoend.reassembly import ReassemblyPool
from gmesh.endtoend.receiving import DatagramReceiver
from gmesh.endtoend.reliable import ReliableSender
from gmesh.endtoend.sealing import Sealer
from gmesh.endtoend.services import Services
from gmesh.endtoend.session_set import SessionSet
from gmesh.errors import PeerRefused, SendRefused
from gmesh.interfaces import IPeerStreams
from gmesh.mesh.members import MemberDirectory
from gmesh.mesh.peer_identity import Peer
from gmesh.trust.limits import CERTIFICATE_LEEWAY

__all__ = ["Association", "Associations", "StreamsFactory"]

StreamsFactory = Callable[[Peer, BatchSender, bool], IPeerStreams | None]
"""
Gives the streams with a peer, which leave by this batch sender from now on.

With True they are made if there are none; with False, when an association begins, those that were left by one
before are given, or None.
"""

_MAY_RETURN = ("evicted", "timed-out", "closed")
"""Reasons after which a peer may send again what it sent before."""


class Association:
    """
    What this node holds of one far node.

    @ivar keys: the sessions with it and the paths to it.
    @ivar batch: sends what is not acknowledged.
    @ivar reliable: sends until acknowledged.
    @ivar receiver: takes what it sends.
    @ivar waiting: called once when there are keys.
    """

    __slots__ = ("batch", "keys", "receiver", "reliable", "waiting")

    def __init__(
        self, keys: SessionSet, batch: BatchSender, reliable: ReliableSender, receiver: DatagramReceiver
    ) -> None:
        self.keys = keys
        self.batch = batch
        self.reliable = reliable
        self.receiver = receiver
        self.waiting: list[Callable[[], None]] = []

    @property
    def streams(self) -> IPeerStreams | None:
        """Byte streams with it, if there have been any."""
        return self.receiver.streams

    @property
    def streaming(self) -> bool:
        """True while a stream is open."""
        streams = self.receiver.streams
        return streams is not None and streams.active

    @property
    def idle(self) -> bool:
        """True if giving it up would interrupt no handshake, no message and no stream."""
        return self.keys.idle and not len(self.reliable) and self.receiver.idle and not self.streaming

    def ready(self) -> None:
        """There are new keys: send what is queued."""
        self.heard()
        waiting, self.waiting = self.waiting, []
        for then in waiting:
            then()
        if self.streams is not None:
            self.streams.ready()
        self.batch.ready()
        self.reliable.ready()

    def heard(self) -> None:
        """Streams learn who the far end is by the keys of now, if there are any."""
        streams, session = self.streams, self.keys.current
        if streams is not None and session is not None:
            streams.heard(session.boot, session.features)

    def bounced(self, counter: int) -> None:
        """A relay did not pass on the frame with this counter: slow down, and send again soon."""
        self.batch.bounced()
        self.reliable.bounced(counter)
        if self.streams is not None:
            self.streams.bounced()


class Associations:
    """
    Every association of this node: found by handle, bounded, timed, and cut when it must be.

    @param directory: the members that are known here.
    @param entropy: as C{os.urandom}, for the numbers of acknowledged messages.
    @param max_sessions: associations at most.
    @ivar generation: changes whenever a sender must not rely on earlier checks.
    """

    def __init__(
        self,
        sealer: Sealer,
        services: Services,
        authorization: Authorization,
        directory: MemberDirectory,
        clock: IReactorTime,
        entropy: Callable[[int], bytes],
        max_sessions: int = limits.MAX_SESSIONS,
    ) -> None:
        self.generation = 0
        self.counters = sealer.counters
        self._sealer = sealer
        self._services = services
        self._authorization = authorization
        self._directory = directory
        self._clock = clock
        self._starts = itertools.count(int.from_bytes(entropy(4), "big"))
        self._max_sessions = max_sessions
        self._pool = ReassemblyPool()
        self._table: dict[bytes, Association] = {}
        self.get = self._table.get  # asked for every frame
        self._departed: OrderedDict[bytes, DeliveredNumbers] = OrderedDict()
        self._streams: StreamsFactory = lambda peer, batch, wanted: None

    def serve(self, streams: StreamsFactory) -> None:
        """Byte streams are there from now on."""
        self._streams = streams

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[Association]:
        return iter(list(self._table.values()))

    @property
    def full(self) -> bool:
        """True if one more would push another out."""
        return len(self._table) >= self._max_sessions

    def associate(self, peer: Peer) -> Association:
        """
        The association with C{peer}; the least recently used idle one makes room for it if it must.

        @raise SendRefused: C{busy}, if none is idle.
        """
        association = self._table.get(peer.handle)
        if association is None:
            if self.full:
                self._evict()
            association = self._table[peer.handle] = self._make(peer)
        return association

    def batch(self, peer: Peer) -> BatchSender | None:
        """
        The batch sender to C{peer}; None to this node itself.

        @raise SendRefused: as L{associate}.
        """
        return None if peer.handle == self._sealer.own else self.associate(peer).batch

    def streams(self, peer: Peer) -> IPeerStreams | None:
        """
        The streams with C{peer}, made if there are none; None if this node has no streams.

        @raise SendRefused: as L{associate}.
        """
        association = self.associate(peer)
        return association.streams or self._begin_streams(peer.handle)

    # what senders rely on

    def admitted(self, batch: BatchSender | None, generation: int, until: float) -> bool:
        """True if what was allowed at C{generation} still is, before C{until}, and there is a path."""
        return (
            batch is not None
            and generation == self.generation
            and self._clock.seconds() < until
            and self._sealer.routed(batch.keys)
        )

    def admit_until(self) -> float:
        """How long a sender may rely on checks made now."""
        return self._clock.seconds() + limits.AUTHORIZATION_LIFE

    def ask_again(self) -> None:
        """What is believed or allowed changed: everything is asked again before the next message."""
        self.generation += 1
        for association in self._table.values():
            association.batch.token = CLOSED
        self.services_changed()

    def services_changed(self) -> None:
        """Services have other receivers: each is looked up again before the next message."""
        for association in self._table.values():
            association.receiver.ask_again()

    # the end of an association

    def give_up(self, association: Association, reason: str) -> None:
        """
        Forget a peer and all that is under way to and from it.

        @param reason: C{timed-out}, C{idle}, C{evicted}, C{closed}, C{stopped}, or why it is not believed
            any more: C{revoked}, C{expired} ...
        """
        keys, receiver = association.keys, association.receiver
        handle = keys.peer.handle
        del self._table[handle]
        self.generation += 1
        keys.given_up = True
        keys.timer.cancel()
        association.waiting.clear()
        self._sealer.close(keys, reason)
        self.counters[f"gone-{reason}"] += 1
        receiver.close()
        self._streams_gone(association, reason)
        if reason in _MAY_RETURN:
            self._remember(handle, receiver.numbers)
        elif reason not in ("idle", "stopped"):
            self._services.purge(keys.peer.node_id)
        association.batch.close()
        association.reliable.fail_all(reason)

    def closed(self, association: Association) -> None:
        """The peer has wiped its keys: messages that it has not acknowledged wait for new ones."""
        self._streams_gone(association, "closed")
        if not len(association.reliable):
            self.give_up(association, "closed")
            return
        self.generation += 1
        association.waiting.clear()
        self._sealer.close(association.keys, "closed")
        self.counters["gone-closed"] += 1
        association.receiver.forget()
        association.batch.close()

    def judge(self, association: Association) -> bool:
        """Still believe the peer, if need be by a newer certificate for the same keys; else cut it off."""
        keys, handshaker = association.keys, self._sealer.handshaker
        newer = self._directory.find_handle(keys.peer.handle)
        reason = "revoked"
        for peer in (keys.peer, newer):
            if peer is None or peer.noise_key != keys.peer.noise_key:
                continue
            try:
                handshaker.trust.judge_certificate(peer.certificate, handshaker.wall())
            except PeerRefused as refusal:
                reason = refusal.reason
                continue
            keys.adopt(peer)
            return True
        self.give_up(association, reason)
        return False

    def judge_all(self) -> None:
        """A document changed by which peers are believed: judge every one again."""
        for association in self:
            keys = association.keys
            keys.lose_way()
            if not keys.given_up:
                self.judge(association)

    def _make(self, peer: Peer) -> Association:
        handle, now = peer.handle, self._clock.seconds()
        timer = DeadlineTimer(self._clock, self._tick, handle)
        keys = SessionSet(self._sealer.own, peer, now, timer)
        batch = BatchSender(self._sealer, keys, self._clock)
        start = next(self._starts) & 0xFFFFFFFF  # another one each time: the peer may remember the last
        reliable = ReliableSender(self._sealer, batch, start, self._clock)
        receiver = DatagramReceiver(
            batch,
            reliable,
            self._services,
            self._authorization,
            self._sealer,
            self._departed.pop(handle, DeliveredNumbers()),
            self._pool,
            self._clock,
        )
        self._sealer.handshakes.arm(keys, now)
        receiver.streams = self._streams(peer, batch, False)
        receiver.begin_streams = self._begin_streams
        return Association(keys, batch, reliable, receiver)

    def _begin_streams(self, handle: bytes) -> IPeerStreams | None:
        association = self._table[handle]
        association.receiver.streams = self._streams(association.keys.peer, association.batch, True)
        association.heard()
        return association.streams

    def _streams_gone(self, association: Association, reason: str) -> None:
        """Streams end, or wait for the next association."""
        streams, association.receiver.streams = association.streams, None
        if streams is not None:
            streams.gone(reason)

    def _remember(self, handle: bytes, numbers: DeliveredNumbers) -> None:
        """Should the peer come back, nothing of what it sent is handed over twice."""
        if len(numbers):
            self._departed[handle] = numbers
            if len(self._departed) > limits.MAX_SOURCES:
                self._departed.popitem(last=False)

    def _tick(self, handle: bytes) -> None:
        association, now = self._table[handle], self._clock.seconds()
        keys, handshaker = association.keys, self._sealer.handshaker
        self._sealer.table.wipe(keys.expire(now))
        if handshaker.wall() > keys.peer.not_after + CERTIFICATE_LEEWAY and not self.judge(association):
            return
        if keys.attempt is not None and now - keys.attempt.began >= limits.REKEY_ATTEMPT_TIME:
            self.give_up(association, "timed-out")
        elif keys.attempt is None and now - keys.used >= limits.FORGET_IDLE and not association.streaming:
            self.give_up(association, "idle")
        else:
            if association.streaming:
                keys.used = max(keys.used, now - limits.FORGET_IDLE / 2)
            self._sealer.handshakes.due(keys, now)
            self._sealer.handshakes.arm(keys, now)

    def _evict(self) -> None:
        idle = [association for association in self._table.values() if association.idle]
        if not idle:
            raise SendRefused("busy", f"sessions with {len(self)} nodes are being set up; try again later")
        self.give_up(min(idle, key=lambda association: association.keys.used), "evicted")
