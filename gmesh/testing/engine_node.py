# SPDX-License-Identifier: MIT
"""
A node without sessions: the real database, flooding, gossip and forwarding; stubs for what costs CPU.

Records are signed with a hash and certificates are looked up in a directory that all nodes share.
A link is only a queue: it falls, goes silent, or is read slowly.
CRL, policy and genesis are real: they are verified by every node.
Tests: C{tests/routing/test_simulated_topologies.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from zope.interface import implementer

from gmesh.errors import FrameRefused
from gmesh.interfaces import ILink
from gmesh.mesh.capture import FrameTrace
from gmesh.mesh.control_budget import ControlBudgets
from gmesh.mesh.control_protocol import ControlFactory
from gmesh.mesh.counters import Counters
from gmesh.mesh.data_protocol import DataFactory
from gmesh.mesh.dispatcher import Dispatcher
from gmesh.mesh.document_reader import DocumentReader
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
from gmesh.testing.engine_stubs import SharedDirectory, StubSigner, stub_verify
from gmesh.testing.issuer import Enrolled
from gmesh.testing.world import World
from gmesh.trust.documents import Certificate, Document
from gmesh.trust.state import TrustState
from gmesh.wire.frames import Kind, is_data, pack_frame
from gmesh.wire.messages import CloseReason, Hello
from gmesh.wire.paths import PathHeader, pack_path_frame

__all__ = ["Edge", "EngineNode", "EngineWorld", "QueueLink"]

Edge = tuple[str, str]

DATA = 66
"""E2E_DATA: what applications send."""

CONTROL_RECORDS = frozenset(
    {Kind.LSA, Kind.IHAVE, Kind.SYNC_DIGEST, Kind.SYNC_LIST, Kind.SYNC_WANT, Kind.CERT_REQ, Kind.CERT}
)
"""What link-state routing costs on the wire."""


class EngineWorld(World):
    """
    The nodes, and what their links and they themselves need of each other.

    @ivar edges: the links that are up, as both ends see them: (smaller name, larger name).
    @ivar frames: how many control frames of link-state routing arrived, by kind.
    @ivar bytes: their bytes.
    @ivar visit: called with (name, kind, frame) of every data frame that arrives anywhere.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.nodes: dict[str, EngineNode] = {}
        self.directory: dict[tuple[bytes, int], Peer] = {}
        self.edges: set[Edge] = set()
        self.frames: dict[int, int] = {}
        self.bytes = 0
        self.visit: Callable[[str, int, bytes], object] = lambda name, kind, frame: None
        self._names: dict[bytes, str] = {}

    def __getitem__(self, name: str) -> EngineNode:
        return self.nodes[name]

    def __iter__(self) -> Iterator[EngineNode]:
        return iter(self.nodes.values())

    def name_of(self, handle: bytes) -> str:
        """The name of the node with this handle."""
        return self._names[handle]

    def frame_arrived(self, node: EngineNode, kind: int, frame: bytes) -> None:
        """Count and trace it; called by links."""
        self.note(node.name, frame)
        if is_data(kind):
            self.visit(node.name, kind, frame)
        elif Kind(kind) in CONTROL_RECORDS:
            self.frames[kind] = self.frames.get(kind, 0) + 1
            self.bytes += len(frame)


class EngineNode:
    """
    Everything between links and sessions of one node, composed as L{gmesh.node.runtime} does.

    A subclass may have real signatures and certificates: C{verify}, L{make_signer}, L{make_directory}.

    @ivar delivered: (kind, header, payload) of what arrived here.
    @ivar undelivered: (header, reason) of what relays said about frames of ours.
    @ivar tampers: a liar's hand: (kind, frame, to whom) -> the frame to send instead, or None for none.
    @ivar skew: seconds its wall clock is off.
    @ivar applied: (kind, time) of each document that came into force.
    """

    def __init__(self, mesh: EngineWorld, enrolled: Enrolled) -> None:
        self.mesh = mesh
        self.enrolled = enrolled
        self.name = enrolled.name
        self.handle = enrolled.handle
        self.certify(enrolled.certificate)
        self.signer = self.make_signer()
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

    verify = staticmethod(stub_verify)

    def make_signer(self) -> Any:
        """What signs its records: C{public}, C{key_id}, C{sign}."""
        return StubSigner(self.enrolled.node_key.public)

    def make_directory(self) -> Any:
        """The members, as this node knows them; L{trust} is there already."""
        return SharedDirectory(self.mesh.directory, self.trust)

    def certify(self, certificate: Document[Certificate]) -> None:
        """This is its certificate from now on."""
        self.peer = peer_of(certificate)
        self.member = member_of(self.peer)

    def wall(self) -> float:
        """What this node takes for Unix seconds."""
        return self.mesh.wall() + self.skew

    def build(self) -> None:
        """Compose the parts, as at a start; the record sequence is what was persisted."""
        mesh, clock = self.mesh, self.mesh.clock
        trust = self.trust = TrustState(
            mesh.issuer.network_id, mesh.issuer.genesis_chain, changed=self._trust_changed
        )
        self.read_documents()
        self.counters = counters = Counters()
        flags = RecordFlag(0)
        if self.peer.relay:
            flags |= RecordFlag.RELAY
        if "anchor" in self.peer.roles:
            flags |= RecordFlag.ANCHOR
        directory = self.directory = self.make_directory()
        now, random = clock.seconds(), Random(mesh.random.getrandbits(64))
        originator = Originator(
            bytes.fromhex(mesh.issuer.network_id),
            self.signer,
            lambda: self.peer.serial,
            random,
            flags,
            self.sequence,
            now,
        )
        self.engine = engine = RouteEngine(
            originator, lambda: self.member, directory.member, trust.revoked, self.verify, now=now
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
        reader = DocumentReader(ControlBudgets(clock))
        self.documents = documents = DocumentGossip(
            trust, neighbours, clock, self.wall, counters, reader, random
        )
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
            lambda header, destination, reason: self.undelivered.append((header, reason)),
            lambda header, destination: True,
        )
        self.updates = RouteUpdates(
            engine, neighbours, flooding, forwarding, documents, directory, clock, self.wall
        )
        self.control = ControlFactory(engine, neighbours, flooding, documents, directory, clock, counters)
        self.dispatcher = Dispatcher()
        self.dispatcher.register(self.control)
        self.dispatcher.register(DataFactory(forwarding))
        neighbours.observe(self.control, forwarding, self.updates)

    def read_documents(self) -> None:
        """What it believes before it hears of anything."""
        for document in self.mesh.issuer.documents:
            self.trust.offer(document, self.mesh.wall())

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
            self.links[other].fall()
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


@implementer(ILink)
class QueueLink:
    """
    One end of a link between two L{EngineNode}s: frames in order after a delay.

    @ivar silent: what this end sends never arrives, and nobody is told.
    @ivar capacity: data bytes under way, or 0 for no limit; what is more is refused.
    """

    initiator = True
    address = "192.0.2.1:7443"
    over = "tcp"

    def __init__(self, node: EngineNode, far: EngineNode, delay: float) -> None:
        self.node = node
        self.far = far
        self.peer: Peer = far.peer
        self.hello: Hello = far.hello()
        self.delay = delay
        self.rtt: float | None = 2 * delay
        self.other: QueueLink = self
        self.up = False
        self.silent = False
        self.suspect = False
        self.capacity = 0
        self.backlog = 0
        self.control_backlog = 0
        self._death: IDelayedCall | None = None

    @classmethod
    def pair(cls, one: EngineNode, other: EngineNode, delay: float) -> tuple[QueueLink, QueueLink]:
        """Both ends."""
        here, there = cls(one, other, delay), cls(other, one, delay)
        here.other, there.other = there, here
        return here, there

    def hold(self) -> None:
        """Frames share nothing here."""

    def release(self) -> None:
        """They left already."""

    def register_sender(self, flow: bytes, producer: IPushProducer) -> None:
        """Nobody is ever paused here."""

    def unregister_sender(self, flow: bytes) -> None:
        """Nobody was registered."""

    def capture(self, seconds: float, count: int) -> Deferred[list[FrameTrace]]:
        """What passes is traced by the mesh."""
        return succeed([])

    def send_control(self, kind: int, body: bytes) -> None:
        """Queue a control frame."""
        self._post(kind, pack_frame(kind, body))

    def send_data(self, frame: bytes, flow: bytes, rest: bytes | memoryview = b"") -> bool:
        """Queue a data frame."""
        frame = b"".join((frame, rest))
        size = len(frame)
        if self.capacity and self.backlog + size > self.capacity:
            self.node.counters.count("data-queue-full")
            return False
        if self.capacity:
            self.backlog += size
        self._post(frame[2], frame)
        return True

    def _post(self, kind: int, frame: bytes) -> None:
        if not self.up:
            return
        node = self.node
        altered = node.tampers(kind, frame, self.far.name) if node.tampers is not None else frame
        if altered is not None and not self.silent:
            node.mesh.clock.callLater(self.delay, self.other.arrive, kind, altered)

    def arrive(self, kind: int, frame: bytes) -> None:
        """A frame from the far end; one that is refused closes the link."""
        sender = self.other
        if sender.capacity and is_data(kind):
            sender.backlog -= len(frame)
        if not self.up:
            return
        mesh = self.node.mesh
        mesh.frame_arrived(self.node, kind, frame)
        record = memoryview(frame)
        try:
            self._table[kind](kind, record, 0, len(record))
        except FrameRefused as error:
            self.node.counters.count(error.reason)
            self.close(CloseReason.PROTOCOL)

    def go_up(self) -> None:
        """HELLO was read."""
        self.up = True
        neighbour = self._neighbour = self.node.neighbours.add(self)
        self._table = self.node.dispatcher.receivers(neighbour)
        self.node.neighbours.up(neighbour)

    def go_down(self, reason: str) -> None:
        """Gone, as this end sees it."""
        if self._death is not None and self._death.active():
            self._death.cancel()
        if self.up:
            self.up = False
            self.node.links.pop(self.far.name, None)
            self.node.neighbours.down(self._neighbour, reason)

    def fall(self, reason: str = "lost") -> None:
        """Gone at both ends."""
        names = sorted((self.node.name, self.far.name))
        self.node.mesh.edges.discard((names[0], names[1]))
        self.go_down(reason)
        self.other.go_down(reason)

    def deafen(self, dead_after: float) -> None:
        """What this end sends no longer arrives; the far end gives the link up after so long."""
        self.silent = True
        self.other._death = self.node.mesh.clock.callLater(dead_after, self.fall, "dead")

    def close(self, reason: CloseReason) -> None:
        """Close both ends."""
        self.fall(reason.slug)

    cut = close
