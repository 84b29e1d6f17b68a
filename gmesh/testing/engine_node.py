# SPDX-License-Identifier: MIT
"""
A node without sessions: the real database, flooding, gossip and forwarding; stubs for what costs CPU.

Records are signed with a hash and certificates are looked up in a directory that all nodes share.
CRL, policy and genesis are real: they are verified by every node.
Tests: C{tests/routing/test_simulated_topologies.py}.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from random import Random
from typing import TYPE_CHECKING, Any

from gmesh.mesh.control_protocol import ControlFactory
from gmesh.mesh.counters import Counters
from gmesh.mesh.data_protocol import DataFactory
from gmesh.mesh.dispatcher import Dispatcher
from gmesh.mesh.fetcher import Asked
from gmesh.mesh.flooding import Flooding
from gmesh.mesh.forwarding import Forwarding
from gmesh.mesh.gossip import DocumentGossip
from gmesh.mesh.members import member_of
from gmesh.mesh.neighbours import Neighbours
from gmesh.mesh.peer_identity import Peer, peer_of
from gmesh.mesh.route_updates import RouteUpdates
from gmesh.routing.engine import RouteEngine
from gmesh.routing.limits import MAX_NODES
from gmesh.routing.origin import Originator
from gmesh.routing.record import RecordFlag
from gmesh.routing.store import Member
from gmesh.testing.issuer import Enrolled
from gmesh.testing.queue_link import QueueLink
from gmesh.trust.documents import Certificate, Document
from gmesh.trust.keys import key_id
from gmesh.trust.state import TrustState
from gmesh.wire.messages import CertificateKey, Hello
from gmesh.wire.paths import PathHeader, pack_path_frame

if TYPE_CHECKING:
    from gmesh.testing.engine_mesh import EngineMesh

__all__ = ["EngineNode", "SharedDirectory", "StubSigner", "stub_verify"]

DATA = 66
"""E2E_DATA: what applications send."""


class StubSigner:
    """Signs with a hash of the public key: nobody in a simulation forges by mistake, and it is cheap."""

    def __init__(self, public: bytes) -> None:
        self.public = public
        self.key_id = key_id(public)

    def sign(self, data: bytes) -> bytes:
        """The stub signature."""
        return hashlib.sha512(b"stub" + self.public + data).digest()


def stub_verify(public: bytes, signature: bytes, data: bytes) -> bool:
    """Whether L{StubSigner} made it."""
    return signature == StubSigner(public).sign(data)


class SharedDirectory:
    """What a node asks of L{gmesh.mesh.members.MemberDirectory}, over one directory for all."""

    def __init__(self, directory: dict[tuple[bytes, int], Peer], trust: TrustState) -> None:
        self.max_nodes = MAX_NODES
        self._directory = directory
        self.trust = trust
        self._revoked: set[bytes] = set()

    def member(self, handle: bytes, serial: int) -> Member | None:
        """As the real one."""
        peer = self._directory.get((handle, serial))
        return None if peer is None or handle in self._revoked else member_of(peer)

    def revoked(self, handle: bytes) -> bool:
        """As the real one."""
        return handle in self._revoked

    def find_handle(self, handle: bytes) -> Peer | None:
        """As the real one."""
        found = [peer for (each, _), peer in self._directory.items() if each == handle]
        return None if handle in self._revoked else max(found, key=lambda peer: peer.serial, default=None)

    def add(self, document: Document[Certificate]) -> Peer:
        """Everybody's certificate is here already."""
        return peer_of(document)

    def lacks(self, key: CertificateKey, number: int) -> bool:
        """As the real one."""
        return self.member(key.handle, key.serial) is None

    def answer(self, wanted: Iterable[CertificateKey]) -> list[bytes]:
        """Nobody has to ask."""
        return []

    def sweep(self) -> list[bytes]:
        """Ask the revocation set about everybody."""
        before = set(self._revoked)
        for (handle, serial), peer in self._directory.items():
            if handle not in before and self.trust.revoked(serial, peer.node_id):
                self._revoked.add(handle)
        return sorted(self._revoked - before)

    def genesis_changed(self) -> None:
        """Nothing waits for it."""

    def expire(self) -> None:
        """Certificates outlive the simulation."""


class EngineNode:
    """
    Everything between links and sessions of one node, composed as L{gmesh.node.runtime} does.

    @ivar delivered: (kind, header, payload) of what arrived here.
    @ivar undelivered: (header, reason) of what relays said about frames of ours.
    @ivar tampers: a liar's hand: (kind, frame, to whom) -> the frame to send instead, or None for none.
    @ivar skew: seconds its wall clock is off.
    @ivar applied: (kind, time) of each document that came into force.
    """

    def __init__(self, mesh: EngineMesh, enrolled: Enrolled) -> None:
        self.mesh = mesh
        self.enrolled = enrolled
        self.name = enrolled.name
        self.handle = enrolled.handle
        self.peer = peer_of(enrolled.certificate)
        self.signer = StubSigner(enrolled.node_key.public)
        self.links: dict[str, QueueLink] = {}
        self.delivered: list[tuple[int, PathHeader, bytes]] = []
        self.undelivered: list[tuple[PathHeader, str]] = []
        self.tampers: Callable[[int, bytes, str], bytes | None] | None = None
        self.skew = 0.0
        self.applied: list[tuple[str, float]] = []
        self.sequence = 0
        self.running = False
        self._counter = 0
        self.build()

    def wall(self) -> float:
        """What this node takes for Unix seconds."""
        return self.mesh.wall() + self.skew

    def build(self) -> None:
        """Compose the parts, as at a start; the record sequence is what was persisted."""
        mesh, clock = self.mesh, self.mesh.clock
        trust = self.trust = TrustState(
            mesh.issuer.network_id, mesh.issuer.genesis_chain, changed=self._trust_changed
        )
        for document in mesh.issuer.documents:
            trust.offer(document, mesh.wall())
        self.counters = counters = Counters()
        flags = RecordFlag(0)
        if self.peer.relay:
            flags |= RecordFlag.RELAY
        if "anchor" in self.peer.roles:
            flags |= RecordFlag.ANCHOR
        member = member_of(self.peer)
        directory: Any = SharedDirectory(mesh.directory, trust)
        self.directory: SharedDirectory = directory
        now, random = clock.seconds(), Random(mesh.random.getrandbits(64))
        originator = Originator(
            bytes.fromhex(mesh.issuer.network_id),
            self.signer,
            lambda: member.serial,
            random,
            flags,
            self.sequence,
            now,
        )
        self.engine = engine = RouteEngine(
            originator, lambda: member, directory.member, trust.revoked, stub_verify, now=now
        )
        self.neighbours = neighbours = Neighbours(
            self.signer.public,
            peer_of,
            lambda: MAX_NODES,
            clock,
            counters,
            records=Asked(clock, engine.store.lacks),
            certificates=Asked(clock, directory.lacks),
        )
        self.flooding = flooding = Flooding(engine, neighbours, clock, self.wall, counters, self._used)
        self.documents = documents = DocumentGossip(trust, neighbours, clock, self.wall, counters)
        self.forwarding = forwarding = Forwarding(
            engine,
            neighbours,
            flooding,
            clock,
            counters,
            relays=lambda: self.peer.relay,
            revoked=directory.revoked,
        )
        forwarding.serve(
            lambda kind, header, body, link: self.delivered.append((kind, header, bytes(body))),
            lambda header, reason: self.undelivered.append((header, reason)),
        )
        self.updates = RouteUpdates(
            engine, neighbours, flooding, forwarding, documents, directory, clock, self.wall
        )
        self.control = ControlFactory(engine, neighbours, flooding, documents, directory, clock, counters)
        self.dispatcher = Dispatcher()
        self.dispatcher.register(self.control)
        self.dispatcher.register(DataFactory(forwarding))
        neighbours.observe(self.control, forwarding, self.updates)

    def _used(self, sequence: int) -> None:
        self.sequence = sequence

    def start(self) -> None:
        """Begin to look after routing."""
        self.running = True
        self.updates.start()

    def _trust_changed(self, kind: str) -> None:
        """As L{gmesh.node.trust_changes.TrustChanges} does: links to revoked nodes end in this turn."""
        if not self.running:
            return
        self.applied.append((kind, self.mesh.now()))
        self.updates.trust_changed(kind)
        for other in [
            other for other, link in self.links.items() if self.directory.revoked(link.peer.handle)
        ]:
            self.mesh.cut(self.name, other)
        self.documents.announce(kind)

    def stop(self) -> None:
        """Every timer is cancelled."""
        self.running = False
        self.updates.stop()

    def hello(self) -> Hello:
        """What it says first."""
        trust = self.trust
        return Hello(
            boot_id=self.handle,
            initiator=True,
            wall_ms=int(self.wall() * 1000),
            serial=self.peer.serial,
            status=trust.status.body.number if trust.status else 0,
            crl=trust.crl.body.number if trust.crl else 0,
            policy=trust.policy.body.version if trust.policy else 0,
            genesis=trust.genesis.body.version,
            digest=self.engine.store.digest(),
        )

    # -- paths and frames

    def path(self, name: str) -> list[str] | None:
        """The names along the path to a node, or None."""
        path = self.engine.path(self.mesh[name].handle, self.mesh.now())
        return None if path is None else [self.mesh.name_of(handle) for handle in path]

    def send(self, name: str, payload: bytes = b"", path: tuple[bytes, ...] | None = None) -> bool:
        """
        One data frame to a node, over the path the engine gives or over this one.

        @return: False if there was no way to send it.
        """
        way = path or self.engine.path(self.mesh[name].handle, self.mesh.now())
        if way is None or len(way) < 2:
            return False
        self._counter += 1
        frame = pack_path_frame(DATA, PathHeader(way, 7, self._counter), payload)
        return self.forwarding.sender(way)(frame, way[0] + way[-1], b"")
