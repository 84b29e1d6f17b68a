# SPDX-License-Identifier: MIT
"""
Spreading node records: what is news goes to every other neighbour, once; what follows within 20 ms is joined.

To many neighbours only so many get a record unasked, anchors first; the others are told of it
and pull what they lack.  On connect, and now and then after, neighbours compare digests and move
only what differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from gmesh.mesh.certificates import CertificateBook
from gmesh.mesh.channel import Channel
from gmesh.mesh.counters import Counters
from gmesh.mesh.eager import eager_channels, is_leaf, is_stub
from gmesh.mesh.network_limits import (
    FLUSH_BACKLOG,
    FLUSH_BYTES,
    FLUSH_INTERVAL,
    IHAVE_ENTRIES,
    IHAVE_INTERVAL,
    LIST_ENTRIES,
    TICK,
)
from gmesh.mesh.peer_identity import Peer
from gmesh.routing.database import Offer, Outcome
from gmesh.routing.engine import RouteEngine
from gmesh.routing.limits import BUCKET_SIZE
from gmesh.routing.store import Key
from gmesh.routing.sync import Summary, buckets_that_differ, missing, summaries
from gmesh.routing.waiting import WaitingRecords
from gmesh.wire.frames import Kind
from gmesh.wire.messages import (
    CertificateKey,
    Ihave,
    Lsa,
    RecordKey,
    RecordNumber,
    RecordSummary,
    SyncDigest,
    SyncList,
)

__all__ = ["Flooding"]


class Flooding:
    """
    The records of this node's database, towards its neighbours.

    @param own_due: called when our own record has to be signed anew.
    @ivar channels: the neighbours by handle.
    """

    def __init__(
        self,
        engine: RouteEngine,
        book: CertificateBook,
        clock: IReactorTime,
        wall: Callable[[], float],
        counters: Counters,
        own_due: Callable[[], None] = lambda: None,
    ) -> None:
        self.channels: dict[bytes, Channel] = {}
        self.own_due = own_due
        self._engine = engine
        self._clock = clock
        self._wall = wall
        self._counters = counters
        self._waiting = WaitingRecords()
        self._flush_call: IDelayedCall | None = None
        self._name_call: IDelayedCall | None = None
        self._retry_call: IDelayedCall | None = None
        self._stopped = False
        self._resynced = -1
        self._flushed = float("-inf")
        book.observers.append(self._certified)

    # -- neighbours

    def link_up(self, channel: Channel) -> None:
        """Send a new neighbour the list of what we hold where its digest differs from ours."""
        self.channels[channel.handle] = channel
        theirs: bytes = channel.link.hello.digest
        self._send_list(channel, buckets_that_differ(self._engine.store.digest(), theirs))

    def link_down(self, channel: Channel) -> None:
        """A neighbour is gone."""
        if self.channels.get(channel.handle) is channel:
            del self.channels[channel.handle]
        self._waiting.drop_source(channel)

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped = True
        for call in (self._flush_call, self._name_call, self._retry_call):
            if call is not None and call.active():
                call.cancel()
        self._flush_call = self._name_call = self._retry_call = None

    def forget(self, handle: bytes) -> None:
        """A node is revoked: nothing of it goes out."""
        for channel in self.channels.values():
            channel.outbox.drop(handle)

    def housekeeping(self) -> None:
        """Drop what waited for too long."""
        self._retry()

    def resync(self) -> None:
        """Compare digests with the next neighbour in turn, to heal whatever was lost on the way."""
        store = self._engine.store
        handles = sorted(handle for handle, each in self.channels.items() if not is_stub(store, each))
        if not handles:
            return
        self._resynced = (self._resynced + 1) % len(handles)
        digest = self._engine.store.digest()
        buckets = tuple(
            (index, digest[index * BUCKET_SIZE : (index + 1) * BUCKET_SIZE])
            for index in range(len(digest) // BUCKET_SIZE)
        )
        self.channels[handles[self._resynced]].send(Kind.SYNC_DIGEST, SyncDigest(buckets).encode())

    # -- records out

    def spread(self, key: Key, data: bytes, but: Channel | None = None) -> None:
        """A record is news: to all neighbours but the one it came from."""
        entry = self._engine.store.get(key)
        if entry is None or self._stopped:
            return
        sequence = entry.record.sequence
        store = self._engine.store
        eager = eager_channels(self._engine.handle, self.channels.values())
        for channel in self.channels.values():
            if channel is but or is_stub(store, channel):
                continue
            if channel in eager or is_leaf(store, channel):
                channel.outbox.put(key, sequence, data)
            else:
                channel.outbox.name(key, sequence)
                self._arm_names()
        self._arm_flush()

    def _reply(self, channel: Channel, key: Key) -> None:
        entry = self._engine.store.get(key)
        if entry is not None and not self._stopped:
            channel.outbox.put(key, entry.record.sequence, entry.data)
            self._arm_flush()

    def _arm_flush(self) -> None:
        if self._flush_call is None and not self._stopped:
            wait = self._flushed + FLUSH_INTERVAL - self._clock.seconds()
            self._flush_call = self._clock.callLater(max(0.0, wait), self._flush)

    def _flush(self) -> None:
        self._flush_call = None
        self._flushed = self._clock.seconds()
        more = False
        for channel in list(self.channels.values()):
            room = FLUSH_BACKLOG - channel.link.control_backlog
            for records in channel.outbox.take(min(FLUSH_BYTES, room)):
                self._counters.count("records-sent", len(records))
                channel.send(Kind.LSA, Lsa(records).encode())
            more = more or bool(channel.outbox.eager)
        if more:
            self._arm_flush()

    def _arm_names(self) -> None:
        if self._name_call is None and not self._stopped:
            self._name_call = self._clock.callLater(IHAVE_INTERVAL, self._name)

    def _name(self) -> None:
        self._name_call = None
        for channel in list(self.channels.values()):
            named = [RecordNumber(*key, sequence) for key, sequence in channel.outbox.lazy.items()]
            channel.outbox.lazy.clear()
            for start in range(0, len(named), IHAVE_ENTRIES):
                channel.send(Kind.IHAVE, Ihave(tuple(named[start : start + IHAVE_ENTRIES])).encode())

    # -- records in

    def records_received(self, channel: Channel, records: Iterable[bytes]) -> None:
        """Judge what a neighbour sent. @raise FrameRefused: if one is no record of this network."""
        for data in records:
            self._offer(channel, data)

    def prove(self, data: bytes) -> Offer:
        """
        Judge a record that came as the proof of an UNREACH, and spread it if it is news.

        @raise FrameRefused: if it is no record of this network.
        """
        return self._offer(None, data)

    def _offer(self, channel: Channel | None, data: bytes) -> Offer:
        now = self._clock.seconds()
        offer = self._engine.offer(data, now, self._wall())
        outcome, key, record = offer
        if channel is not None:
            channel.records.came(key)
            if record is not None:
                channel.outbox.seen(key, record.sequence)
        if outcome is Outcome.ACCEPTED:
            self._counters.count("record-accepted")
            self.spread(key, data, channel)
        elif outcome is Outcome.DUPLICATE:
            entry = self._engine.store.get(key)
            if channel is not None and entry is not None:
                channel.outbox.seen(key, entry.record.sequence)
        elif outcome is Outcome.OWN_NEWER:
            self.own_due()
        elif channel is not None and record is not None:
            self._refused(channel, outcome, key, record.serial, record.sequence, data, now)
        return offer

    def _refused(
        self,
        channel: Channel,
        outcome: Outcome,
        key: Key,
        serial: int,
        sequence: int,
        data: bytes,
        now: float,
    ) -> None:
        if outcome in (Outcome.OLD, Outcome.EQUIVOCATION):
            self._reply(channel, key)
        elif outcome is Outcome.CERTIFICATE_MISSING:
            if self._waiting.park(channel, key, serial, sequence, data, now):
                channel.certificates.want(CertificateKey(key[0], serial))
            else:
                self._counters.count("record-not-parked")
        elif outcome is Outcome.RATE_LIMITED:
            self._waiting.defer(channel, key, sequence, data, self._engine.database.ready_at(key, now))
            self._arm_retry()
        elif outcome is Outcome.BAD_SIGNATURE:
            channel.failed("record-bad-signature")
        else:
            self._counters.count("record-" + outcome.value)

    def _certified(self, peer: Peer) -> None:
        """A certificate is new here: what waited for it is judged again."""
        for channel in self.channels.values():
            channel.certificates.came(CertificateKey(peer.handle, peer.serial))
        for source, data in self._waiting.release(peer.handle, peer.serial):
            self._again(source, data)

    def _arm_retry(self) -> None:
        due = self._waiting.next_due()
        if due is None or self._stopped:
            return
        if self._retry_call is not None and self._retry_call.active():
            self._retry_call.cancel()
        self._retry_call = self._clock.callLater(max(0.0, due - self._clock.seconds()) + TICK, self._retry)

    def _retry(self) -> None:
        for source, data in self._waiting.due(self._clock.seconds()):
            self._again(source, data)
        if self._retry_call is not None and not self._retry_call.active():
            self._retry_call = None
        self._arm_retry()

    def _again(self, source: object, data: bytes) -> None:
        """What waits was well formed when it came."""
        if isinstance(source, Channel):
            self._offer(source, data)

    # -- announcements and sync

    def named(self, channel: Channel, entries: Iterable[RecordNumber]) -> None:
        """IHAVE: pull what is news."""
        store = self._engine.store
        for entry in entries:
            key = (entry.origin, entry.fragment)
            channel.outbox.seen(key, entry.sequence)
            if entry.sequence > store.floor(key):
                channel.records.want(key)

    def wanted(self, channel: Channel, keys: Iterable[RecordKey]) -> None:
        """SYNC_WANT: send what we hold of it."""
        for key in keys:
            self._reply(channel, (key.origin, key.fragment))

    def listed(self, channel: Channel, entries: Iterable[RecordSummary]) -> None:
        """SYNC_LIST: ask for what is newer than ours."""
        for key in missing(self._engine.store, (Summary(*entry) for entry in entries)):
            channel.records.want(key)

    def compared(self, channel: Channel, buckets: Iterable[tuple[int, bytes]]) -> None:
        """SYNC_DIGEST: list what we hold where we differ."""
        digest = self._engine.store.digest()
        differing = [
            index
            for index, theirs in buckets
            if digest[index * BUCKET_SIZE : (index + 1) * BUCKET_SIZE] != theirs
        ]
        self._send_list(channel, differing)

    def _send_list(self, channel: Channel, buckets: Iterable[int]) -> None:
        lines = [RecordSummary(*line) for line in summaries(self._engine.store, buckets)]
        for start in range(0, len(lines), LIST_ENTRIES):
            channel.send(Kind.SYNC_LIST, SyncList(tuple(lines[start : start + LIST_ENTRIES])).encode())
