# SPDX-License-Identifier: MIT
"""
The network half of several nodes with links that are only queues: real documents, keys and frames.

A L{DoubleLink} keeps order and delays; it can be cut, made deaf for data, or watched.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from zope.interface import implementer

from gmesh.errors import FrameRefused
from gmesh.interfaces import ILink
from gmesh.mesh.members import MemberDirectory
from gmesh.mesh.peer_identity import Peer
from gmesh.testing.engine_node import EngineNode, EngineWorld
from gmesh.testing.issuer import Enrolled
from gmesh.trust.keys import SigningKey, verify
from gmesh.wire.frames import is_data, pack_frame
from gmesh.wire.messages import CloseReason, Hello
from gmesh.wire.paths import PathHeader, pack_path_frame


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
        assert len(flow) in (16, 24)
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


class TestNode(EngineNode):
    """An L{EngineNode} with real signatures, certificates of its own, and links that can be watched."""

    __test__ = False

    def __init__(self, world: TestWorld, enrolled: Enrolled, documents: bool = True) -> None:
        self.world = world
        self.clock = world.clock
        self.informed = documents
        self.certified: list[Peer] = []
        self.refusals: list[str] = []
        self.sequences: list[int] = []
        self.withholds: Callable[[int, bytes], bool] | None = None
        super().__init__(world, enrolled)
        self.directory.add(enrolled.certificate)
        self.start()

    def verify(self, public: bytes, signature: bytes, data: bytes) -> bool:
        """Real Ed25519, counted."""
        self.world.verified += 1
        return verify(public, signature, data)

    def make_signer(self) -> SigningKey:
        """The node key."""
        return self.enrolled.node_key

    def make_directory(self) -> MemberDirectory:
        """Its own, which learns from others."""
        return MemberDirectory(self.trust, self.wall, certified=self._certified)

    def read_documents(self) -> None:
        """Those of the issuer, unless it begins with none."""
        if self.informed:
            super().read_documents()

    def _used(self, sequence: int) -> None:
        super()._used(sequence)
        self.sequences.append(sequence)

    def _trust_changed(self, kind: str) -> None:
        """Links stay: tests of the parts cut them."""
        if self.running:
            self.updates.trust_changed(kind)
            self.documents.announce(kind)

    def _certified(self, peer: Peer) -> None:
        self.flooding.certified(peer)
        self.certified.append(peer)

    def send_to(self, target: TestNode, payload: bytes = b"payload", **header: Any) -> bool:
        """One E2E_DATA frame over the path the engine gives."""
        path = header.pop("path", None) or self.engine.path(target.handle, self.clock.seconds())
        if path is None:
            return False
        frame = pack_path_frame(
            66, PathHeader(path, header.pop("index", 7), header.pop("counter", 1)), payload
        )
        return self.forwarding.sender(path)(frame, path[0] + path[-1], b"")


class TestWorld(EngineWorld):
    """L{TestNode}s and the links between them."""

    __test__ = False
    nodes: dict[str, TestNode]

    def __init__(self, seed: int = 1) -> None:
        super().__init__(seed)
        self.visits: list[tuple[str, bytes]] = []
        self.verified = 0

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

    def stop(self) -> None:
        """Stop every node; nothing may be left on the clock."""
        for node in self.nodes.values():
            for link in list(node.links.values()):
                link.go_down("stop")
            node.updates.stop()
        self.run(1)
        assert self.clock.getDelayedCalls() == []
