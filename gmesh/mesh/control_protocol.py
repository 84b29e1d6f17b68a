# SPDX-License-Identifier: MIT
"""
Control frames of one neighbour: records, certificates and documents, in and out.

Bodies are decoded here and nowhere else; a malformed one closes the link.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from gmesh.errors import DocumentRefused, PeerRefused
from gmesh.interfaces import IFrameReceiver, IFrameReceiverFactory
from gmesh.mesh.counters import Counters
from gmesh.mesh.flooding import Flooding
from gmesh.mesh.gossip import PUSHES, REQUESTS, DocumentGossip
from gmesh.mesh.limits import CERTIFICATE_FRAME
from gmesh.mesh.members import MemberDirectory
from gmesh.mesh.neighbour import Neighbour, NeighbourObserver
from gmesh.mesh.neighbours import Neighbours
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
    """The control frames of one neighbour."""

    def __init__(self, factory: ControlFactory, neighbour: Neighbour) -> None:
        self._factory = factory
        self._neighbour = neighbour
        flooding = factory.flooding
        self._table: dict[int, Callable[[memoryview], Any]] = {
            Kind.LSA: lambda body: flooding.records_received(neighbour, Lsa.decode(body).records),
            Kind.IHAVE: lambda body: flooding.named(neighbour, Ihave.decode(body).entries),
            Kind.SYNC_LIST: lambda body: flooding.listed(neighbour, SyncList.decode(body).entries),
            Kind.SYNC_WANT: lambda body: flooding.wanted(neighbour, SyncWant.decode(body).entries),
            Kind.SYNC_DIGEST: self._digest_received,
            Kind.CERT_REQ: self._certificates_wanted,
            Kind.CERT: self._certificates_received,
            Kind.PATH_REQ: self._path_wanted,
            Kind.PATH_REP: lambda body: flooding.path_answered(neighbour, PathReply.decode(body)),
        }

    def frame_received(self, kind: int, record: memoryview, start: int, end: int) -> None:
        """One control frame."""
        body = record[start + FRAME_HEADER : end]
        take = self._table.get(kind)
        if take is not None:
            take(body)
        elif kind in PUSHES:
            self._factory.documents.push_received(
                self._neighbour, PUSHES[Kind(kind)], DocumentPush.decode(body)
            )
        elif kind in REQUESTS:
            request = DocumentRequest.decode(body)
            self._factory.documents.request_received(self._neighbour, REQUESTS[Kind(kind)], request)

    def _digest_received(self, body: memoryview) -> None:
        digest = SyncDigest.decode(body)
        if self._neighbour.may_compare():
            self._factory.flooding.compared(self._neighbour, digest.buckets)

    def _certificates_wanted(self, body: memoryview) -> None:
        request = CertRequest.decode(body)
        if self._neighbour.may_ask():
            self._factory.send_certificates(self._neighbour, self._factory.directory.answer(request.wanted))

    def _certificates_received(self, body: memoryview) -> None:
        """What unknown keys signed is one failure a frame: its sender may have a newer genesis."""
        unknown = False
        for encoded in CertAnswer.decode(body).certificates:
            try:
                document = parse_document(encoded, Certificate)
            except DocumentRefused:
                self._neighbour.failed("certificate-malformed")
            else:
                unknown |= not self._factory.take_certificate(self._neighbour, document)
        if unknown:
            self._neighbour.failed("certificate-unknown-key")

    def _path_wanted(self, body: memoryview) -> None:
        """The path through us, with the records that prove it: a neighbour cannot invent links."""
        request = PathRequest.decode(body)
        factory, asker = self._factory, self._neighbour.handle
        if not self._neighbour.may_ask():
            return
        path = factory.path(request)
        if path is None or asker in path:
            self._neighbour.send(Kind.PATH_REP, PathReply(request.request, ()).encode())
            return
        path = (asker, *path)
        records = list(dict.fromkeys(data for pair in pairwise(path) for data in factory.proof(*pair)))
        batches = [tuple(records[at : at + PATH_RECORDS]) for at in range(0, len(records), PATH_RECORDS)]
        for number, batch in enumerate(batches, 1):
            reply = PathReply(request.request, path, batch, more=number < len(batches))
            self._neighbour.send(Kind.PATH_REP, reply.encode())


PATH_RECORDS = 24
"""Node records in one PATH_REP: 24 of the largest fit a frame."""


@implementer(IFrameReceiverFactory)
class ControlFactory(NeighbourObserver):
    """Takes the control frames of each neighbour, and holds what this needs."""

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
        neighbours: Neighbours,
        flooding: Flooding,
        documents: DocumentGossip,
        directory: MemberDirectory,
        clock: IReactorTime,
        counters: Counters,
    ) -> None:
        self.engine = engine
        self.neighbours = neighbours
        self.flooding = flooding
        self.documents = documents
        self.directory = directory
        self.clock = clock
        self.counters = counters

    def build_receiver(self, neighbour: Neighbour) -> ControlProtocol:
        """A receiver of this neighbour's control frames."""
        return ControlProtocol(self, neighbour)

    def link_up(self, neighbour: Neighbour) -> None:
        """Take its certificate, and compare the documents and records that both ends hold."""
        self.take_certificate(neighbour, neighbour.peer.certificate)
        self.documents.link_up(neighbour)
        self.flooding.link_up(neighbour)

    def link_down(self, neighbour: Neighbour, reason: str) -> None:
        """What it was sending, and what only it offered, is given up."""
        self.flooding.link_down(neighbour)
        self.documents.link_down(neighbour)

    def take_certificate(self, neighbour: Neighbour, document: Document[Certificate]) -> bool:
        """
        Judge a certificate; a record that waits for it follows.

        What an unknown key signed makes us ask for a newer genesis; that a certificate has ended, is early or
        revoked is not the neighbour's fault.

        @return: False if an unknown key signed it.
        """
        try:
            peer = self.directory.add(document)
        except (PeerRefused, DocumentRefused) as error:
            if error.reason == "unknown-key":
                self.documents.ask_genesis(neighbour)
                return False
            if error.reason in ("bad-signature", "bad-key", "wrong-network"):
                neighbour.failed("certificate-" + error.reason)
            else:
                self.counters.count("certificate-" + error.reason)
        else:
            neighbour.certificates.came(CertificateKey(peer.handle, peer.serial))
        return True

    def announce_certificate(self, document: Document[Certificate]) -> None:
        """Our certificate was renewed: every neighbour goes on under the new one."""
        for neighbour in self.neighbours:
            self.send_certificates(neighbour, [document.encode()])

    def send_certificates(self, neighbour: Neighbour, certificates: list[bytes]) -> None:
        """As many CERT frames as it takes."""
        batch: list[bytes] = []
        size = 0
        for encoded in certificates:
            if batch and (size + len(encoded) > CERTIFICATE_FRAME or len(batch) == MAX_CERTIFICATES):
                neighbour.send(Kind.CERT, CertAnswer(tuple(batch)).encode())
                batch, size = [], 0
            batch.append(encoded)
            size += len(encoded)
        if batch:
            neighbour.send(Kind.CERT, CertAnswer(tuple(batch)).encode())

    def path(self, request: PathRequest) -> tuple[bytes, ...] | None:
        """The path from us to a node that the asker knows by handle or only by name."""
        destination = request.destination
        if request.name:
            peer = self.directory.find_name(request.name)
            if peer is None:
                return None
            destination = peer.handle
        if destination == self.engine.handle:
            return (destination,)
        return self.engine.path(destination, self.clock.seconds())

    def proof(self, one: bytes, other: bytes) -> list[bytes]:
        """The records in which two neighbours on a path list each other."""
        found = []
        for node, neighbour in ((one, other), (other, one)):
            for entry in self.engine.store.fragments(node).values():
                if any(handle == neighbour for handle, _ in entry.record.links):
                    found.append(entry.data)
        return found
