# SPDX-License-Identifier: MIT
"""
One neighbour: its link and what that costs, what is queued for it, what was asked of it, its failures.

Tests: C{tests/mesh/test_neighbours.py}, C{tests/mesh/test_flooding.py}.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from gmesh.interfaces import ILink
from gmesh.mesh.counters import Counters
from gmesh.mesh.fetcher import Asked, Fetcher
from gmesh.mesh.limits import (
    CERTIFICATE_BATCH,
    DIGEST_BURST,
    DIGEST_RATE,
    LSA_FRAME,
    LSA_FRAME_RECORDS,
    QUESTION_BURST,
    QUESTION_RATE,
    WANT_BATCH,
)
from gmesh.mesh.peer_identity import Peer
from gmesh.mesh.standing import Standing
from gmesh.routing.metric import LinkMetric
from gmesh.routing.store import Key
from gmesh.token_bucket import TokenBucket
from gmesh.wire.frames import Kind
from gmesh.wire.messages import CertificateKey, CertRequest, CloseReason, DocumentPush, RecordKey, SyncWant

__all__ = ["Neighbour", "NeighbourObserver", "RecordOutbox"]


class RecordOutbox:
    """
    Records queued for one link, the newest of each key only: bounded by the database itself.

    C{eager} ones are sent, C{lazy} ones only named.

    @ivar owed: those of the eager ones that the neighbour asked for: naming a newer one does not answer that.
    """

    def __init__(self) -> None:
        self.owed: set[Key] = set()
        self.eager: dict[Key, tuple[int, bytes]] = {}
        self.lazy: dict[Key, int] = {}

    def put(self, key: Key, sequence: int, data: bytes) -> None:
        """Send this soon, in place of any other record of its key."""
        self.eager[key] = (sequence, data)
        self.lazy.pop(key, None)

    def owe(self, key: Key, sequence: int, data: bytes) -> None:
        """Answer with this soon."""
        self.put(key, sequence, data)
        self.owed.add(key)

    def name(self, key: Key, sequence: int) -> None:
        """Name this soon."""
        if key in self.eager:
            del self.eager[key]
            self.owed.discard(key)
        self.lazy[key] = sequence

    def seen(self, key: Key, sequence: int) -> None:
        """The neighbour has shown that it holds this: never send it back."""
        eager = self.eager.get(key)
        if eager is not None and eager[0] <= sequence:
            del self.eager[key]
            self.owed.discard(key)
        if self.lazy.get(key, sequence + 1) <= sequence:
            del self.lazy[key]

    def drop(self, handle: bytes) -> None:
        """A node is revoked: nothing of it goes out."""
        for key in [key for key in self.eager if key[0] == handle]:
            del self.eager[key]
            self.owed.discard(key)
        for key in [key for key in self.lazy if key[0] == handle]:
            del self.lazy[key]

    def take(self, limit: int) -> list[tuple[bytes, ...]]:
        """Records for one LSA frame each, about C{limit} bytes in all."""
        frames: list[tuple[bytes, ...]] = []
        frame: list[bytes] = []
        size = total = 0
        while self.eager and total < limit:
            key = next(iter(self.eager))
            _, data = self.eager.pop(key)
            self.owed.discard(key)
            if frame and (size + len(data) > LSA_FRAME or len(frame) == LSA_FRAME_RECORDS):
                frames.append(tuple(frame))
                frame, size = [], 0
            frame.append(data)
            size += len(data)
            total += len(data)
        if frame:
            frames.append(tuple(frame))
        return frames


class Neighbour:
    """
    A node this one is linked with; everything that is kept for it stands here and ends with the link.

    @param records: what all neighbours together were asked for.
    @param certificates: the same.
    @param standing: what is remembered of this node, from earlier links too.
    @ivar handle: its routing handle.
    @ivar observers: those that know of the link, in the order in which they heard of it.
    @ivar metric: what the link costs.
    @ivar outbox: node records queued for it.
    @ivar numbers: the newest documents it is known to hold, by type.
    @ivar offers: what it announced last, by type: documents too large to be sent unasked.
    @ivar records: node records wanted of it.
    @ivar certificates: certificates wanted of it.
    """

    def __init__(
        self,
        link: ILink,
        clock: IReactorTime,
        counters: Counters,
        records: Asked[Key],
        certificates: Asked[CertificateKey],
        standing: Standing,
    ) -> None:
        self.standing = standing
        self.link = link
        self.handle: bytes = link.peer.handle
        self.observers: list[NeighbourObserver] = []
        self.metric = LinkMetric(link.rtt)
        self.outbox = RecordOutbox()
        self.numbers: dict[str, int] = {}
        self.offers: dict[str, DocumentPush] = {}
        self.records: Fetcher[Key] = Fetcher(clock, self._ask_records, WANT_BATCH, records)
        self.certificates: Fetcher[CertificateKey] = Fetcher(
            clock, self._ask_certificates, CERTIFICATE_BATCH, certificates
        )
        self._clock = clock
        self._counters = counters
        now = clock.seconds()
        self._questions = TokenBucket(QUESTION_RATE, QUESTION_BURST, now)
        self._digests = TokenBucket(DIGEST_RATE, DIGEST_BURST, now)

    @property
    def peer(self) -> Peer:
        """The node, under its newest certificate."""
        peer: Peer = self.link.peer
        return peer

    @property
    def anchor(self) -> bool:
        """Whether it is an anchor."""
        return "anchor" in self.link.peer.roles

    def send(self, kind: Kind, body: bytes) -> None:
        """Queue a control frame."""
        self.link.send_control(kind, body)

    def failed(self, cause: str) -> None:
        """Something it passed on did not verify; too much of that, over all its links, ends this one."""
        self._counters.count(cause)
        if not self.standing.failures.take(self._clock.seconds()):
            self._counters.count("too-many-failures")
            self.link.close(CloseReason.PROTOCOL)

    def may_ask(self) -> bool:
        """Whether its next question is answered."""
        return self._allow(self._questions)

    def may_compare(self) -> bool:
        """Whether its next digest is compared."""
        return self._allow(self._digests)

    def stop(self) -> None:
        """The link is gone."""
        self.records.stop()
        self.certificates.stop()

    def _allow(self, bucket: TokenBucket) -> bool:
        allowed = bucket.take(self._clock.seconds())
        if not allowed:
            self._counters.count("question-ignored")
        return allowed

    def _ask_records(self, keys: list[Key]) -> None:
        self.send(Kind.SYNC_WANT, SyncWant(tuple(RecordKey(*key) for key in keys)).encode())

    def _ask_certificates(self, keys: list[CertificateKey]) -> None:
        self.send(Kind.CERT_REQ, CertRequest(tuple(keys)).encode())


class NeighbourObserver:
    """What acts when a link comes up, changes or goes down; a subclass says on which of these."""

    def link_up(self, neighbour: Neighbour) -> None:
        """Frames can be sent to it from now on."""

    def link_down(self, neighbour: Neighbour, reason: str) -> None:
        """Its link is gone; called exactly once after L{link_up}."""

    def link_changed(self, neighbour: Neighbour) -> None:
        """Its link is suspect, or no longer, or its certificate was renewed."""
