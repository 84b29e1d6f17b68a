# SPDX-License-Identifier: MIT
"""
Node records: our own is signed when due; each of others is judged once, and what is news goes on.

On connect, and now and then after, neighbours compare digests and move only what differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from gmesh.mesh.counters import Counters
from gmesh.mesh.limits import LIST_ENTRIES, TICK
from gmesh.mesh.neighbour import Neighbour
from gmesh.mesh.neighbours import Neighbours
from gmesh.mesh.peer_identity import Peer
from gmesh.mesh.plumtree import Spreader, is_stub
from gmesh.mesh.timers import cancel_calls
from gmesh.routing.database import Offer, OfferOutcome
from gmesh.routing.engine import RouteEngine
from gmesh.routing.limits import BUCKET_SIZE
from gmesh.routing.store import Key
from gmesh.routing.sync import Summary, buckets_that_differ, missing, summaries
from gmesh.routing.waiting import WaitingRecords
from gmesh.wire.frames import Kind
from gmesh.wire.messages import (
    CertificateKey,
    PathReply,
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

    @param wall: Unix seconds.
    @param sequence_used: called with the sequence of our own record after each signing, to be persisted.
    @cvar spreader: sends records out.
    """

    spreader = Spreader

    def __init__(
        self,
        engine: RouteEngine,
        neighbours: Neighbours,
        clock: IReactorTime,
        wall: Callable[[], float],
        counters: Counters,
        sequence_used: Callable[[int], object],
    ) -> None:
        self._engine = engine
        self._neighbours = neighbours
        self._clock = clock
        self._wall = wall
        self._counters = counters
        self._sequence_used = sequence_used
        self._waiting = WaitingRecords()
        self._out = self.spreader(engine, neighbours, clock, counters)
        self._own_call: IDelayedCall | None = None
        self._retry_call: IDelayedCall | None = None
        self._started = self._stopped = False
        self._resynced = -1

    # -- neighbours

    def link_up(self, neighbour: Neighbour) -> None:
        """Send a new neighbour the list of what we hold where its digest differs from ours."""
        theirs: bytes = neighbour.link.hello.digest
        self._send_list(neighbour, buckets_that_differ(self._engine.store.digest(), theirs))

    def link_down(self, neighbour: Neighbour) -> None:
        """A neighbour is gone."""
        self._waiting.drop_source(neighbour)

    # -- our own record

    def start(self) -> None:
        """Sign the own record for the first time, soon."""
        self._started = True
        self.originate()

    def originate(self) -> None:
        """Sign and spread what is due of our own record, now or at its time."""
        if not self._started or self._stopped:
            return
        cancel_calls(self._own_call)
        self._own_call = None
        now = self._clock.seconds()
        due = self._engine.next_due()
        if due is not None and due <= now:
            made = self._engine.originate(now, self._wall())
            if made:
                self._sequence_used(self._engine.sequence)
            for key, data in made:
                self._out.spread(key, data)
            due = self._engine.next_due()
        if due is not None:
            self._own_call = self._clock.callLater(max(0.0, due - now) + TICK, self.originate)

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped = True
        self._out.stop()
        cancel_calls(self._own_call, self._retry_call)
        self._own_call = self._retry_call = None

    def forget(self, handle: bytes) -> None:
        """A node is revoked: nothing of it goes out."""
        for neighbour in self._neighbours:
            neighbour.outbox.drop(handle)

    def housekeeping(self) -> None:
        """Drop what waited for too long."""
        self._retry()
        self._neighbours.records.forget_old()
        self._neighbours.certificates.forget_old()

    def resync(self) -> None:
        """Compare digests with the next neighbour in turn, to repair what was lost in transit."""
        store = self._engine.store
        by_handle = self._neighbours.by_handle
        handles = sorted(handle for handle, each in by_handle.items() if not is_stub(store, each))
        if not handles:
            return
        self._resynced = (self._resynced + 1) % len(handles)
        digest = self._engine.store.digest()
        buckets = tuple(
            (index, digest[index * BUCKET_SIZE : (index + 1) * BUCKET_SIZE])
            for index in range(len(digest) // BUCKET_SIZE)
        )
        by_handle[handles[self._resynced]].send(Kind.SYNC_DIGEST, SyncDigest(buckets).encode())

    # -- records in

    def records_received(self, neighbour: Neighbour, records: Iterable[bytes]) -> None:
        """Judge what a neighbour sent. @raise FrameRefused: if one is not a record of this network."""
        for data in records:
            self._offer(neighbour, data)

    def prove(self, data: bytes) -> Offer:
        """
        Judge a record that came as the proof of an UNREACH, and spread it if it is news.

        @raise FrameRefused: if it is not a record of this network.
        """
        return self._offer(None, data)

    def _offer(self, neighbour: Neighbour | None, data: bytes) -> Offer:
        now = self._clock.seconds()
        offer = self._engine.offer(data, now, self._wall())
        outcome, key, record = offer
        if neighbour is not None:
            neighbour.records.came(key)
            if record is not None:
                neighbour.outbox.seen(key, record.sequence)
        if outcome is OfferOutcome.ACCEPTED:
            self._counters.count("record-accepted")
            self._out.spread(key, data, neighbour)
            self._neighbours.records.settled(key)
            self._learned()
        elif outcome is OfferOutcome.DUPLICATE:
            self._neighbours.records.settled(key)
            entry = self._engine.store.get(key)
            if neighbour is not None and entry is not None:
                neighbour.outbox.seen(key, entry.record.sequence)
        elif outcome is OfferOutcome.OWN_NEWER:
            self.originate()
        elif neighbour is not None and record is not None:
            self._refused(neighbour, outcome, key, record.serial, record.sequence, data, now)
        return offer

    def _refused(
        self,
        neighbour: Neighbour,
        outcome: OfferOutcome,
        key: Key,
        serial: int,
        sequence: int,
        data: bytes,
        now: float,
    ) -> None:
        if outcome in (OfferOutcome.OLD, OfferOutcome.EQUIVOCATION):
            self._out.reply(neighbour, key)
        elif outcome is OfferOutcome.CERTIFICATE_MISSING:
            if self._waiting.park(neighbour, key, serial, sequence, data, now):
                neighbour.certificates.want(CertificateKey(key[0], serial))
            else:
                self._counters.count("record-not-parked")
        elif outcome is OfferOutcome.RATE_LIMITED:
            self._waiting.defer(neighbour, key, sequence, data, self._engine.database.ready_at(key, now))
            self._arm_retry()
        elif outcome is OfferOutcome.BAD_SIGNATURE:
            neighbour.failed("record-bad-signature")
        else:
            self._counters.count("record-" + outcome.value)

    def _learned(self) -> None:
        """A record of another node is believed."""

    def certified(self, peer: Peer) -> None:
        """A certificate is new here: what waited for it is judged again."""
        self._neighbours.certificates.settled(CertificateKey(peer.handle, peer.serial))
        for source, data in self._waiting.release(peer.handle, peer.serial):
            self._again(source, data)

    def _arm_retry(self) -> None:
        due = self._waiting.next_due()
        if due is None or self._stopped:
            return
        cancel_calls(self._retry_call)
        self._retry_call = self._clock.callLater(max(0.0, due - self._clock.seconds()) + TICK, self._retry)

    def _retry(self) -> None:
        for source, data in self._waiting.due(self._clock.seconds()):
            self._again(source, data)
        if self._retry_call is not None and not self._retry_call.active():
            self._retry_call = None
        self._arm_retry()

    def _again(self, source: object, data: bytes) -> None:
        """Records kept for later were well formed when they came."""
        if isinstance(source, Neighbour):
            self._offer(source, data)

    # -- announcements and sync

    def named(self, neighbour: Neighbour, entries: Iterable[RecordNumber]) -> None:
        """IHAVE: pull what is news."""
        store = self._engine.store
        for entry in entries:
            key = (entry.origin, entry.fragment)
            neighbour.outbox.seen(key, entry.sequence)
            if entry.sequence > store.floor(key):
                neighbour.records.want(key, entry.sequence)

    def wanted(self, neighbour: Neighbour, keys: Iterable[RecordKey]) -> None:
        """SYNC_WANT: send what we hold of it."""
        for key in keys:
            self._out.reply(neighbour, (key.origin, key.fragment))

    def listed(self, neighbour: Neighbour, entries: Iterable[RecordSummary]) -> None:
        """SYNC_LIST: ask for what is newer than ours."""
        for key, sequence in missing(self._engine.store, (Summary(*entry) for entry in entries)).items():
            neighbour.records.want(key, sequence)

    def compared(self, neighbour: Neighbour, buckets: Iterable[tuple[int, bytes]]) -> None:
        """SYNC_DIGEST: list what we hold where we differ."""
        digest = self._engine.store.digest()
        differing = [
            index
            for index, theirs in buckets
            if digest[index * BUCKET_SIZE : (index + 1) * BUCKET_SIZE] != theirs
        ]
        self._send_list(neighbour, differing)

    def _send_list(self, neighbour: Neighbour, buckets: Iterable[int]) -> None:
        lines = [RecordSummary(*line) for line in summaries(self._engine.store, buckets)]
        for start in range(0, len(lines), LIST_ENTRIES):
            neighbour.send(Kind.SYNC_LIST, SyncList(tuple(lines[start : start + LIST_ENTRIES])).encode())

    # -- paths that we asked for

    def path_answered(self, neighbour: Neighbour, reply: PathReply) -> None:
        """PATH_REP: a node that keeps a table asks for no path."""
        self._counters.count("path-unasked")
