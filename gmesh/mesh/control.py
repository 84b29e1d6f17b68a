# SPDX-License-Identifier: MIT
"""
Control frames of one link: records, certificates and documents in and out of what all links share.

Bodies are decoded here and nowhere else; a malformed one closes the link.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from gmesh.errors import DocumentRefused, PeerRefused
from gmesh.interfaces import IFrameReceiver, IFrameReceiverFactory, ILink
from gmesh.mesh.certificates import CertificateBook
from gmesh.mesh.channel import Channel
from gmesh.mesh.counters import Counters
from gmesh.mesh.documents import PUSHES, REQUESTS, DocumentGossip
from gmesh.mesh.flooding import Flooding
from gmesh.mesh.network_limits import CERTIFICATE_FRAME
from gmesh.routing.engine import RouteEngine
from gmesh.trust.documents import Certificate, Document, parse_document
from gmesh.wire.frames import Kind
from gmesh.wire.limits import FRAME_HEADER, MAX_CERTIFICATES
from gmesh.wire.messages import (
    CertAnswer,
    CertificateKey,
    CertRequest,
    DocumentPush,
    DocumentRequest,
    Ihave,
    Lsa,
    PathReply,
    PathRequest,
    SyncDigest,
    SyncList,
    SyncWant,
)

__all__ = ["ControlFactory", "ControlProtocol"]


@implementer(IFrameReceiver)
class ControlProtocol:
    """The control half of one link."""

    def __init__(self, factory: ControlFactory, link: ILink) -> None:
        self._factory = factory
        flooding = factory.flooding
        channel = self._channel = Channel(
            link, factory.clock, factory.counters, flooding.records_asked, flooding.certificates_asked
        )
        self._table: dict[int, Callable[[memoryview], Any]] = {
            Kind.LSA: lambda body: flooding.records_received(channel, Lsa.decode(body).records),
            Kind.IHAVE: lambda body: flooding.named(channel, Ihave.decode(body).entries),
            Kind.SYNC_LIST: lambda body: flooding.listed(channel, SyncList.decode(body).entries),
            Kind.SYNC_WANT: lambda body: flooding.wanted(channel, SyncWant.decode(body).entries),
            Kind.SYNC_DIGEST: self._digest_received,
            Kind.CERT_REQ: self._certificates_wanted,
            Kind.CERT: self._certificates_received,
            Kind.PATH_REQ: self._path_wanted,
            Kind.PATH_REP: lambda body: factory.path_answered(channel, PathReply.decode(body)),
        }

    def link_up(self) -> None:
        """Compare what both ends hold, and take the neighbour's certificate."""
        factory, channel = self._factory, self._channel
        self._take(channel.link.peer.certificate)
        factory.channels[channel] = None
        factory.documents.link_up(channel)
        factory.flooding.link_up(channel)

    def link_down(self, reason: str) -> None:
        """The link is gone."""
        factory, channel = self._factory, self._channel
        factory.channels.pop(channel, None)
        factory.flooding.link_down(channel)
        factory.documents.link_down(channel)
        channel.stop()

    def frame_received(self, kind: int, record: memoryview, start: int, end: int) -> None:
        """One control frame."""
        body = record[start + FRAME_HEADER : end]
        take = self._table.get(kind)
        if take is not None:
            take(body)
        elif kind in PUSHES:
            self._factory.documents.push_received(
                self._channel, PUSHES[Kind(kind)], DocumentPush.decode(body)
            )
        elif kind in REQUESTS:
            request = DocumentRequest.decode(body)
            self._factory.documents.request_received(self._channel, REQUESTS[Kind(kind)], request)

    def _digest_received(self, body: memoryview) -> None:
        digest = SyncDigest.decode(body)
        if self._channel.may_compare():
            self._factory.flooding.compared(self._channel, digest.buckets)

    def _certificates_wanted(self, body: memoryview) -> None:
        request = CertRequest.decode(body)
        if self._channel.may_ask():
            self._factory.send_certificates(self._channel, self._factory.book.answer(request.wanted))

    def _certificates_received(self, body: memoryview) -> None:
        for encoded in CertAnswer.decode(body).certificates:
            try:
                document = parse_document(encoded, Certificate)
            except DocumentRefused:
                self._channel.failed("certificate-malformed")
            else:
                self._take(document)

    def _take(self, document: Document[Certificate]) -> None:
        """
        Judge a certificate; a record that waits for it follows.

        What a stranger key signed sends us to ask for a newer genesis; what is only over, early or
        revoked is no fault of the neighbour.
        """
        channel = self._channel
        try:
            peer = self._factory.book.add(document)
        except (PeerRefused, DocumentRefused) as error:
            if error.reason == "unknown-key":
                self._factory.documents.ask_genesis(channel)
            if error.reason in ("bad-signature", "bad-key", "wrong-network"):
                channel.failed("certificate-" + error.reason)
            else:
                self._factory.counters.count("certificate-" + error.reason)
        else:
            channel.certificates.came(CertificateKey(peer.handle, peer.serial))

    def _path_wanted(self, body: memoryview) -> None:
        """The way through us, with the records that prove it: a neighbour cannot invent links."""
        request = PathRequest.decode(body)
        factory, asker = self._factory, self._channel.handle
        if not self._channel.may_ask():
            return
        path = factory.way(request)
        if path is None or asker in path:
            self._channel.send(Kind.PATH_REP, PathReply(request.request, ()).encode())
            return
        path = (asker, *path)
        records = list(dict.fromkeys(data for pair in pairwise(path) for data in factory.proof(*pair)))
        batches = [tuple(records[at : at + PATH_RECORDS]) for at in range(0, len(records), PATH_RECORDS)]
        for number, batch in enumerate(batches, 1):
            reply = PathReply(request.request, path, batch, more=number < len(batches))
            self._channel.send(Kind.PATH_REP, reply.encode())


PATH_RECORDS = 24
"""Node records in one PATH_REP: 24 of the largest fit a frame."""


@implementer(IFrameReceiverFactory)
class ControlFactory:
    """
    Builds the control half of each link and holds what all of them share.

    @ivar channels: every neighbour, in the order in which they came up.
    @param path_answered: takes the answers to PATH_REQ, where somebody asks.
    """

    kinds = frozenset(
        {
            Kind.LSA,
            Kind.IHAVE,
            Kind.SYNC_DIGEST,
            Kind.SYNC_LIST,
            Kind.SYNC_WANT,
            Kind.CERT_REQ,
            Kind.CERT,
            Kind.PATH_REQ,
            Kind.PATH_REP,
            *PUSHES,
            *REQUESTS,
        }
    )

    def __init__(
        self,
        engine: RouteEngine,
        flooding: Flooding,
        documents: DocumentGossip,
        book: CertificateBook,
        clock: IReactorTime,
        counters: Counters,
        path_answered: Callable[[Channel, PathReply], None] | None = None,
    ) -> None:
        self.engine = engine
        self.flooding = flooding
        self.documents = documents
        self.book = book
        self.clock = clock
        self.counters = counters
        self.channels: dict[Channel, None] = {}
        self.path_answered = path_answered or self._unasked

    def build_receiver(self, link: ILink) -> ControlProtocol:
        """A receiver for this link."""
        return ControlProtocol(self, link)

    def announce_certificate(self, document: Document[Certificate]) -> None:
        """Our certificate was renewed: every neighbour goes on under the new one."""
        for channel in self.channels:
            self.send_certificates(channel, [document.encode()])

    def send_certificates(self, channel: Channel, certificates: list[bytes]) -> None:
        """As many CERT frames as it takes."""
        batch: list[bytes] = []
        size = 0
        for encoded in certificates:
            if batch and (size + len(encoded) > CERTIFICATE_FRAME or len(batch) == MAX_CERTIFICATES):
                channel.send(Kind.CERT, CertAnswer(tuple(batch)).encode())
                batch, size = [], 0
            batch.append(encoded)
            size += len(encoded)
        if batch:
            channel.send(Kind.CERT, CertAnswer(tuple(batch)).encode())

    def way(self, request: PathRequest) -> tuple[bytes, ...] | None:
        """The path from us to whom an asker knows by handle or only by name."""
        destination = request.destination
        if request.name:
            peer = self.book.find_name(request.name)
            if peer is None:
                return None
            destination = peer.handle
        if destination == self.engine.handle:
            return (destination,)
        return self.engine.path(destination, self.clock.seconds())

    def _unasked(self, channel: Channel, reply: PathReply) -> None:
        self.counters.count("path-unasked")

    def proof(self, one: bytes, other: bytes) -> list[bytes]:
        """The records in which two neighbours on a path list each other."""
        found = []
        for node, neighbour in ((one, other), (other, one)):
            for entry in self.engine.store.fragments(node).values():
                if any(handle == neighbour for handle, _ in entry.record.links):
                    found.append(entry.data)
        return found
