# SPDX-License-Identifier: MIT
"""
The network half of several nodes with links that are only queues: real documents, keys and frames.

A L{DoubleLink} keeps order and delays; it can be cut, made deaf for data, or watched.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

from twisted.internet.task import Clock
from zope.interface import implementer

from gmesh.errors import FrameRefused
from gmesh.interfaces import ILink
from gmesh.mesh.control_protocol import ControlFactory
from gmesh.mesh.counters import Counters
from gmesh.mesh.data_protocol import DataFactory
from gmesh.mesh.dispatcher import Dispatcher
from gmesh.mesh.fetcher import Asked
from gmesh.mesh.flooding import Flooding
from gmesh.mesh.forwarding import Forwarding
from gmesh.mesh.gossip import DocumentGossip
from gmesh.mesh.members import MemberDirectory, member_of
from gmesh.mesh.neighbours import Neighbours
from gmesh.mesh.peer_identity import Peer, peer_of
from gmesh.mesh.route_updates import RouteUpdates
from gmesh.routing.engine import RouteEngine
from gmesh.routing.origin import Originator
from gmesh.routing.record import RecordFlag
from gmesh.routing.store import Member
from gmesh.testing.issuer import Enrolled, Issuer
from gmesh.trust.keys import verify
from gmesh.trust.state import TrustState
from gmesh.wire.frames import is_data, pack_frame
from gmesh.wire.messages import CloseReason, Hello
from gmesh.wire.paths import PathHeader, pack_path_frame

WALL = 1_760_000_000.0


def forge(data: bytes) -> bytes:
    """The same bytes with a signature that cannot be right."""
    return data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]


@implementer(ILink)
class DoubleLink:
    """One end of a link between two test nodes."""

    initiator = True
    address = "192.0.2.1:7443"
    rtt: float | None = None

    def __init__(self, node: TestNode, far: TestNode, delay: float) -> None:
        self.node = node
        self.far = far
        self.peer: Peer = far.peer
        self.hello: Hello = far.hello()
        self.other: DoubleLink | None = None
        self.delay = delay
        self.up = False
        self.closed: list[CloseReason] = []
        self.sent: list[tuple[int, bytes]] = []
        self.takes_data = True
        self.suspect = False
        self.backlog = 0
        self.control_backlog = 0

    def hold(self) -> None:
        """Frames share nothing here."""

    def release(self) -> None:
        """They left already."""

    def send_control(self, kind: int, body: bytes) -> None:
        """Queue a control frame."""
        self._post(kind, pack_frame(kind, body))

    def send_data(self, frame: bytes, flow: bytes, rest: bytes | memoryview = b"") -> bool:
        """Queue a data frame."""
        assert len(flow) == 16
        if self.takes_data:
            self._post(frame[2], b"".join((frame, rest)))
        return self.takes_data

    def _post(self, kind: int, frame: bytes) -> None:
        if not self.up:
            return
        self.sent.append((kind, frame))
        if self.node.withholds is not None and self.node.withholds(kind, frame):
            return
        self.node.world.clock.callLater(self.delay, self._arrive, kind, frame)

    def _arrive(self, kind: int, frame: bytes) -> None:
        assert self.other is not None
        if self.other.up:
            self.other.receive(kind, frame)

    def receive(self, kind: int, frame: bytes) -> None:
        """A frame from the far end; one that is refused closes the link."""
        world = self.node.world
        world.frames[kind] = world.frames.get(kind, 0) + 1
        world.bytes += len(frame)
        if is_data(kind):
            world.visits.append((self.node.name, frame))
        record = memoryview(b"ab" + frame)
        try:
            self.receivers[kind](kind, record, 2, len(record))
        except FrameRefused as error:
            self.node.refusals.append(error.reason)
            self.close(CloseReason.PROTOCOL)

    def go_up(self) -> None:
        """HELLO was read."""
        self.up = True
        self.neighbour = self.node.neighbours.add(self)
        self.receivers = self.node.dispatcher.receivers(self.neighbour)
        self.node.neighbours.up(self.neighbour)

    def go_down(self, reason: str) -> None:
        """Gone."""
        if self.up:
            self.up = False
            self.node.neighbours.down(self.neighbour, reason)

    def close(self, reason: CloseReason) -> None:
        """Close both ends."""
        self.closed.append(reason)
        self.go_down(reason.slug)
        if self.other is not None:
            self.other.go_down(reason.slug)

    cut = close


class TestNode:
    """Everything of a node's network half, composed as the runtime does."""

    __test__ = False

    def __init__(self, world: TestWorld, enrolled: Enrolled, documents: bool = True) -> None:
        self.world = world
        self.enrolled = enrolled
        self.name = enrolled.name
        self.clock = world.clock
        self.composed = False
        self.certified: list[Peer] = []
        self.trust = TrustState(
            world.issuer.network_id, world.issuer.genesis_chain, changed=self._trust_changed
        )
        if documents:
            for document in world.issuer.documents:
                self.trust.offer(document, world.wall())
        self.counters = Counters()
        self.refusals: list[str] = []
        self.delivered: list[tuple[int, PathHeader, bytes]] = []
        self.undelivered: list[tuple[PathHeader, str]] = []
        self.sequences: list[int] = []
        self.withholds: Callable[[int, bytes], bool] | None = None
        self.links: dict[str, DoubleLink] = {}
        self.build()

    @property
    def peer(self) -> Peer:
        """How others see it."""
        return peer_of(self.enrolled.certificate)

    @property
    def handle(self) -> bytes:
        """Its handle."""
        return self.enrolled.handle

    def build(self, sequence: int = 0) -> None:
        """Compose the parts, as at a start."""
        world = self.world
        flags = RecordFlag(0)
        if self.peer.relay:
            flags |= RecordFlag.RELAY
        if "anchor" in self.peer.roles:
            flags |= RecordFlag.ANCHOR
        self.directory = MemberDirectory(self.trust, world.wall, certified=self._certified)
        originator = Originator(
            bytes.fromhex(world.issuer.network_id),
            self.enrolled.node_key,
            lambda: self._own_member().serial,
            world.random,
            flags,
            sequence,
            world.clock.seconds(),
        )
        self.engine = RouteEngine(
            originator,
            self._own_member,
            self.directory.member,
            self.trust.revoked,
            world.verify,
            now=world.clock.seconds(),
        )
        self.neighbours = Neighbours(
            self.enrolled.node_key.public,
            peer_of,
            lambda: 64,
            world.clock,
            self.counters,
            records=Asked(world.clock, self.engine.store.lacks),
            certificates=Asked(world.clock, self.directory.lacks),
        )
        self.flooding = Flooding(
            self.engine, self.neighbours, world.clock, world.wall, self.counters, self.sequences.append
        )
        self.documents = DocumentGossip(self.trust, self.neighbours, world.clock, world.wall, self.counters)
        self.forwarding = Forwarding(
            self.engine,
            self.neighbours,
            self.flooding,
            world.clock,
            self.counters,
            relays=lambda: self.peer.relay,
            revoked=self.directory.revoked,
        )
        self.forwarding.serve(
            lambda kind, header, body, link: self.delivered.append((kind, header, bytes(body))),
            lambda header, reason: self.undelivered.append((header, reason)),
        )
        self.updates = RouteUpdates(
            self.engine,
            self.neighbours,
            self.flooding,
            self.forwarding,
            self.documents,
            self.directory,
            world.clock,
            world.wall,
        )
        self.control = ControlFactory(
            self.engine,
            self.neighbours,
            self.flooding,
            self.documents,
            self.directory,
            world.clock,
            self.counters,
        )
        self.dispatcher = Dispatcher()
        self.dispatcher.register(self.control)
        self.dispatcher.register(DataFactory(self.forwarding))
        self.neighbours.observe(self.control, self.forwarding, self.updates)
        self.directory.add(self.enrolled.certificate)
        self.updates.start()
        self.composed = True

    def _trust_changed(self, kind: str) -> None:
        if self.composed:
            self.updates.trust_changed(kind)
            self.documents.announce(kind)

    def _certified(self, peer: Peer) -> None:
        self.flooding.certified(peer)
        self.certified.append(peer)

    def _own_member(self) -> Member:
        return member_of(self.peer)

    def hello(self) -> Hello:
        """What it says first."""
        trust = self.trust
        return Hello(
            boot_id=self.handle,
            initiator=True,
            wall_ms=int(self.world.wall() * 1000),
            serial=self.peer.serial,
            status=trust.status.body.number if trust.status else 0,
            crl=trust.crl.body.number if trust.crl else 0,
            policy=trust.policy.body.version if trust.policy else 0,
            genesis=trust.genesis.body.version,
            digest=self.engine.store.digest(),
        )

    def send(self, target: TestNode, payload: bytes = b"payload", **header: Any) -> bool:
        """One E2E_DATA frame over the path the engine gives."""
        path = header.pop("path", None) or self.engine.path(target.handle, self.clock.seconds())
        if path is None:
            return False
        frame = pack_path_frame(
            66, PathHeader(path, header.pop("index", 7), header.pop("counter", 1)), payload
        )
        return self.forwarding.sender(path)(frame, path[0] + path[-1], b"")


class TestWorld:
    """An issuer, a clock and nodes."""

    __test__ = False

    def __init__(self, seed: int = 1) -> None:
        self.random = Random(seed)
        self.clock = Clock()
        self.issuer = Issuer(self.wall, Random(seed))
        self.nodes: dict[str, TestNode] = {}
        self.frames: dict[int, int] = {}
        self.bytes = 0
        self.visits: list[tuple[str, bytes]] = []
        self.verified = 0
        self.step = 0.001

    def wall(self) -> float:
        """Unix seconds."""
        return WALL + self.clock.seconds()

    def verify(self, public: bytes, signature: bytes, data: bytes) -> bool:
        """Real Ed25519, counted."""
        self.verified += 1
        return verify(public, signature, data)

    def add(self, name: str, *roles: str, documents: bool = True) -> TestNode:
        """Enrol and start a node."""
        node = TestNode(self, self.issuer.enrol(name, *(roles or ("relay",))), documents)
        self.nodes[name] = node
        return node

    def connect(self, one: TestNode, other: TestNode, delay: float = 0.005) -> tuple[DoubleLink, DoubleLink]:
        """A link comes up at both ends."""
        here, there = DoubleLink(one, other, delay), DoubleLink(other, one, delay)
        here.other, there.other = there, here
        one.links[other.name], other.links[one.name] = here, there
        here.up = there.up = True
        here.go_up()
        there.go_up()
        return here, there

    def cut(self, one: TestNode, other: TestNode, reason: str = "lost") -> None:
        """It falls, seen at both ends."""
        one.links.pop(other.name).go_down(reason)
        other.links.pop(one.name).go_down(reason)

    def line(self, *names: str) -> list[TestNode]:
        """Relays in a line, connected."""
        nodes = [self.add(name) for name in names]
        for one, other in pairwise(nodes):
            self.connect(one, other)
        return nodes

    def run(self, seconds: float) -> None:
        """Let time pass, event by event."""
        end = self.clock.seconds() + seconds
        while calls := self.clock.getDelayedCalls():
            due = min(call.getTime() for call in calls)
            if due > end:
                break
            self.clock.rightNow = max(self.clock.rightNow, due)
            self.clock.advance(0)
        self.clock.rightNow = end

    def stop(self) -> None:
        """Stop every node; nothing may be left on the clock."""
        for node in self.nodes.values():
            for link in list(node.links.values()):
                link.go_down("stop")
            node.updates.stop()
        self.run(1)
        assert self.clock.getDelayedCalls() == []
