# SPDX-License-Identifier: MIT
"""
A link that is only a queue: frames in order after a delay; it falls, goes silent, or is read slowly.

Tests: C{tests/routing/test_simulated_topologies.py}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from zope.interface import implementer

from gmesh.errors import FrameRefused
from gmesh.interfaces import ILink
from gmesh.mesh.capture import FrameTrace
from gmesh.mesh.peer_identity import Peer
from gmesh.wire.frames import Kind, is_data, pack_frame
from gmesh.wire.messages import CloseReason, Hello

if TYPE_CHECKING:
    from gmesh.testing.engine_node import EngineNode

__all__ = ["QueueLink"]


@implementer(ILink)
class QueueLink:
    """
    One end of a link between two L{EngineNode<gmesh.testing.engine_node.EngineNode>}s.

    @ivar silent: what this end sends never arrives, and nobody is told.
    @ivar capacity: data bytes under way, or 0 for no limit; what is more is refused.
    """

    initiator = True
    address = "192.0.2.1:7443"

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

    def set_dropped(self, dropped: object) -> None:
        """Nothing that was taken is dropped here."""

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


CONTROL_RECORDS = frozenset(
    {Kind.LSA, Kind.IHAVE, Kind.SYNC_DIGEST, Kind.SYNC_LIST, Kind.SYNC_WANT, Kind.CERT_REQ, Kind.CERT}
)
"""What link-state routing costs on the wire."""
