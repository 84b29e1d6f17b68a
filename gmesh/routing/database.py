# SPDX-License-Identifier: MIT
"""
The link-state database: which node records are believed.

Checks run from cheap to expensive, the signature last; nothing is stored before all have passed.
C{now} is the monotonic clock, C{wall} Unix seconds: records are dated by their origin, but
expire here by our own timer.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from math import inf
from typing import NamedTuple

from gmesh.routing.limits import (
    CERTIFICATE_GRACE,
    EXPIRY_GRACE,
    MAX_FUTURE,
    MAX_LIFETIME,
    MAX_NODES,
    ORIGIN_BURST,
    ORIGIN_RATE,
)
from gmesh.routing.origin_rates import OriginRates
from gmesh.routing.record import NodeRecord, decode_record, handle_of, node_id_of, peek, signing_input
from gmesh.routing.store import Entry, Key, Member, RecordStore, record_hash
from gmesh.token_bucket import TokenBucket

__all__ = ["LinkStateDatabase", "Offer", "OfferOutcome"]


class OfferOutcome(Enum):
    """What became of an offered record."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    OLD = "old"
    EQUIVOCATION = "equivocation"
    OWN_NEWER = "own-newer"
    CERTIFICATE_MISSING = "certificate-missing"
    RATE_LIMITED = "rate-limited"
    FULL = "full"
    EXPIRED = "expired"
    FUTURE = "future"
    REVOKED = "revoked"
    NOT_ALLOWED = "not-allowed"
    BAD_SIGNATURE = "bad-signature"


class Offer(NamedTuple):
    """An outcome and the key of the record it is about."""

    outcome: OfferOutcome
    key: Key
    record: NodeRecord | None


class LinkStateDatabase:
    """
    Believed records of all nodes, ours included.

    @param network_id: 16 bytes.
    @param own_key: our raw Ed25519 public key.
    @param member: (handle, serial) -> L{Member} of a certificate held and valid, or None.
    @param revoked: (serial, node id) -> bool.
    @param verify: (public key, signature, data) -> bool.
    @param changed: called with a handle whose records changed.
    @param alarm: called with a slug and a handle: C{equivocation}, C{own-record}.
    """

    def __init__(
        self,
        network_id: bytes,
        own_key: bytes,
        member: Callable[[bytes, int], Member | None],
        revoked: Callable[[int, str], bool],
        verify: Callable[[bytes, bytes, bytes], bool],
        changed: Callable[[bytes], None] = lambda handle: None,
        alarm: Callable[[str, bytes], None] = lambda slug, handle: None,
        max_nodes: int = MAX_NODES,
    ) -> None:
        self.network_id = network_id
        self.handle = handle_of(own_key)
        self.max_nodes = max_nodes
        self.store = RecordStore(changed, max_tombstones=2 * max_nodes)
        self._own_key = own_key
        self._member = member
        self._revoked = revoked
        self._verify = verify
        self._alarm = alarm
        self._rates = OriginRates()
        self._first_ends = self._first_over = 0.0

    def offer(self, data: bytes, now: float, wall: float) -> Offer:
        """
        Judge one record and store it if it is news.

        @raise FrameRefused: when it is not a canonical record of this network.
        """
        seen = peek(data)
        if seen is not None:
            held = self.store.get(seen[:2])
            if held is not None and held.data == data:
                return Offer(OfferOutcome.DUPLICATE, seen[:2], None)
        record = decode_record(data, self.network_id)
        key = (record.handle, record.fragment)
        if key[0] == self.handle:
            return Offer(self._judge_own(key, record, data), key, record)
        return Offer(self._judge(key, record, data, now, wall), key, record)

    def _judge_own(self, key: Key, record: NodeRecord, data: bytes) -> OfferOutcome:
        if record.sequence < self.store.floor(key):
            return OfferOutcome.OLD
        if record.node_key != self._own_key or not self._signed(record, data):
            return OfferOutcome.BAD_SIGNATURE
        self._alarm("own-record", self.handle)
        return OfferOutcome.OWN_NEWER

    def _judge(self, key: Key, record: NodeRecord, data: bytes, now: float, wall: float) -> OfferOutcome:
        held = self.store.get(key)
        if not self.store.fragments(key[0]) and self.store.origins >= self.max_nodes:
            return OfferOutcome.FULL
        floor = self.store.floor(key)
        rival = held is not None and record.sequence == held.record.sequence
        if record.sequence <= floor and not rival:
            return OfferOutcome.OLD
        if record.issued_at > wall + MAX_FUTURE:
            return OfferOutcome.FUTURE
        if record.issued_at + record.lifetime <= wall:
            return OfferOutcome.EXPIRED
        if self._revoked(record.serial, node_id_of(record.node_key)):
            return OfferOutcome.REVOKED
        member = self._member(key[0], record.serial)
        if member is None:
            return OfferOutcome.CERTIFICATE_MISSING
        if member.node_key != record.node_key or (record.fragment and "anchor" not in member.roles):
            return OfferOutcome.NOT_ALLOWED
        bucket = (held.bucket if held else None) or TokenBucket(ORIGIN_RATE, ORIGIN_BURST, now)
        digest = record_hash(data)
        if held is not None and held.rival == digest:
            return OfferOutcome.EQUIVOCATION
        if not (bucket.has(now) and self._rates.has(key[0], now)):
            return OfferOutcome.RATE_LIMITED
        if not self._signed(record, data):
            return OfferOutcome.BAD_SIGNATURE
        bucket.take(now)
        self._rates.spend(key[0], "anchor" in member.roles, now)
        other = None
        if held is not None and rival:
            other = max(held.hash, digest)
            if held.rival is None:
                self._alarm("equivocation", key[0])
            if held.hash < digest:
                held.rival = other
                return OfferOutcome.EQUIVOCATION
        left = min(record.issued_at + record.lifetime - wall, MAX_LIFETIME)
        entry = Entry(record, data, digest, member, now + left + EXPIRY_GRACE, bucket, other)
        self._soonest(entry, member.not_after + CERTIFICATE_GRACE)
        self.store.put(key, entry)
        return OfferOutcome.ACCEPTED

    def _signed(self, record: NodeRecord, data: bytes) -> bool:
        unsigned = data[: len(data) - len(record.signature)]
        return self._verify(record.node_key, record.signature, signing_input(unsigned))

    def ready_at(self, key: Key, now: float) -> float:
        """When a record refused as L{OfferOutcome.RATE_LIMITED} may be offered again."""
        held = self.store.get(key)
        fragment = held.bucket.ready_at(now) if held and held.bucket else now
        return max(fragment, self._rates.ready_at(key[0], now))

    def adopt(self, other: LinkStateDatabase) -> None:
        """Begin with what another database of the same network believes."""
        self.store.adopt(other.store)
        self._first_over, self._first_ends = other._first_over, other._first_ends

    def install_own(self, record: NodeRecord, data: bytes, member: Member, now: float) -> None:
        """Store a record we have just signed."""
        bucket = TokenBucket(ORIGIN_RATE, ORIGIN_BURST, now)
        expires_at = now + record.lifetime + EXPIRY_GRACE
        key = (record.handle, record.fragment)
        entry = Entry(record, data, record_hash(data), member, expires_at, bucket)
        self._soonest(entry, inf)
        self.store.put(key, entry)

    def revoke(self, handle: bytes, now: float) -> bool:
        """Drop every record of a node at once; True if there was one."""
        fragments = list(self.store.fragments(handle))
        for fragment in fragments:
            self.store.drop((handle, fragment), now)
        return bool(fragments)

    def sweep_revoked(self, now: float) -> list[bytes]:
        """Drop the records of every node that the revocation set names now; their handles."""
        gone = {
            key[0]
            for key, entry in self.store.entries()
            if key[0] != self.handle and self._revoked(entry.member.serial, entry.member.node_id)
        }
        for handle in gone:
            self.revoke(handle, now)
        return sorted(gone)

    def expire(self, now: float, wall: float) -> None:
        """Drop what has ended: records, records of ended certificates, tombstones."""
        if now >= self._first_over or wall > self._first_ends:
            self._drop_what_is_over(now, wall)
        self.store.forget_tombstones(now)

    def _drop_what_is_over(self, now: float, wall: float) -> None:
        """Also note until when all that is left lasts, so that most ticks look at nothing."""
        self._first_over = self._first_ends = inf
        for key, entry in list(self.store.entries()):
            ends = entry.member.not_after + CERTIFICATE_GRACE if key[0] != self.handle else inf
            if entry.expires_at <= now or ends < wall:
                self.store.drop(key, now)
            else:
                self._soonest(entry, ends)

    def _soonest(self, entry: Entry, ends: float) -> None:
        self._first_over = min(self._first_over, entry.expires_at)
        self._first_ends = min(self._first_ends, ends)
