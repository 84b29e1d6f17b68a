# SPDX-License-Identifier: MIT
"""
Node records from neighbours: each is judged once, what is news goes on, what is missing is asked for.

On connect, and now and then after, neighbours compare digests and move only what differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from gmesh.mesh.certificates import CertificateBook
from gmesh.mesh.channel import Channel
from gmesh.mesh.counters import Counters
from gmesh.mesh.eager import is_stub
from gmesh.mesh.fetch import Asked
from gmesh.mesh.network_limits import LIST_ENTRIES, TICK
from gmesh.mesh.peer_identity import Peer
from gmesh.mesh.spreading import Spreader
from gmesh.routing.database import Offer, Outcome
from gmesh.routing.engine import RouteEngine
from gmesh.routing.limits import BUCKET_SIZE
from gmesh.routing.store import Key
from gmesh.routing.sync import Summary, buckets_that_differ, missing, summaries
from gmesh.routing.waiting import WaitingRecords
from gmesh.wire.frames import Kind
from gmesh.wire.messages import (
    CertificateKey,
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
    @param learned: called when a record of another node is believed.
    @ivar channels: the neighbours by handle.
    @ivar records_asked: which records were asked of whom.
    @ivar certificates_asked: which certificates were.
    @cvar spreader: sends records out.
    """

    spreader = Spreader

    def __init__(
        self,
        engine: RouteEngine,
        book: CertificateBook,
        clock: IReactorTime,
        wall: Callable[[], float],
        counters: Counters,
        own_due: Callable[[], object] = lambda: None,
        learned: Callable[[], object] = lambda: None,
    ) -> None:
        self.channels: dict[bytes, Channel] = {}
        self._own_due = own_due
        self._learned = learned
        self._engine = engine
        self._clock = clock
        self._wall = wall
        self._counters = counters
        self.records_asked: Asked[Key] = Asked(
            clock, lambda key, sequence: sequence > engine.store.floor(key)
        )
        self.certificates_asked: Asked[CertificateKey] = Asked(
            clock, lambda key, _: book.member(key.handle, key.serial) is None
        )
        self._waiting = WaitingRecords()
        self._out = self.spreader(engine, clock, counters, self.channels)
        self._retry_call: IDelayedCall | None = None
        self._stopped = False
        self._resynced = -1

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
        self._out.stop()
        if self._retry_call is not None and self._retry_call.active():
            self._retry_call.cancel()
        self._retry_call = None

    def spread(self, key: Key, data: bytes) -> None:
        """A record of our own is news to every neighbour."""
        self._out.spread(key, data)

    def forget(self, handle: bytes) -> None:
        """A node is revoked: nothing of it goes out."""
        for channel in self.channels.values():
            channel.outbox.drop(handle)

    def housekeeping(self) -> None:
        """Drop what waited for too long."""
        self._retry()
        self.records_asked.forget_old()
        self.certificates_asked.forget_old()

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
            self._out.spread(key, data, channel)
            self.records_asked.settled(key)
            self._learned()
        elif outcome is Outcome.DUPLICATE:
            self.records_asked.settled(key)
            entry = self._engine.store.get(key)
            if channel is not None and entry is not None:
                channel.outbox.seen(key, entry.record.sequence)
        elif outcome is Outcome.OWN_NEWER:
            self._own_due()
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
            self._out.reply(channel, key)
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

    def certified(self, peer: Peer) -> None:
        """A certificate is new here: what waited for it is judged again."""
        self.certificates_asked.settled(CertificateKey(peer.handle, peer.serial))
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
                channel.records.want(key, entry.sequence)

    def wanted(self, channel: Channel, keys: Iterable[RecordKey]) -> None:
        """SYNC_WANT: send what we hold of it."""
        for key in keys:
            self._out.reply(channel, (key.origin, key.fragment))

    def listed(self, channel: Channel, entries: Iterable[RecordSummary]) -> None:
        """SYNC_LIST: ask for what is newer than ours."""
        for key, sequence in missing(self._engine.store, (Summary(*entry) for entry in entries)).items():
            channel.records.want(key, sequence)

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
