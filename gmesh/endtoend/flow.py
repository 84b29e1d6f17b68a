# SPDX-License-Identifier: MIT
"""
An application's handle on one service of one node: all that is alike for its messages, asked for once.

Within a turn the second and every later message costs a comparison, a look at its size and two appends.
Whatever could change the answer (policy, revocation, keys, pause) closes the lane, and the next
message asks for everything again.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IConsumer, IProducer, IPushProducer
from zope.interface import implementer

from gmesh.endtoend import limits
from gmesh.endtoend.guard import Faults, GuardedProducer
from gmesh.endtoend.lane import CLOSED, Lane
from gmesh.endtoend.lanes import Lanes
from gmesh.endtoend.limits import WHOLE_SIZE
from gmesh.endtoend.outbox import encode_datagram
from gmesh.mesh.peer_identity import Peer
from gmesh.wire.messages import DatagramTemplate

__all__ = ["Flow"]

Admit = Callable[[str, str, int], Peer]
"""C{admit(node, service, size)}: every check before a message leaves; raises SendRefused."""


@implementer(IConsumer)
class Flow:
    """
    Unacknowledged messages to (node, service): L{send}, or as a Twisted consumer, a message a C{write}.

    A push producer registered here is paused while there is no room or no key, and then nothing of
    it is dropped on this host.

    @param here: takes a message to a service of this node.
    @param number: gives the next number of a message that must be cut.
    """

    __slots__ = (
        "_admit",
        "_fixed",
        "_generation",
        "_head",
        "_here",
        "_lane",
        "_lanes",
        "_number",
        "_producer",
        "_size",
        "_template",
        "_token",
        "_until",
        "node",
        "service",
    )

    def __init__(
        self,
        node: str,
        service: str,
        lanes: Lanes,
        admit: Admit,
        here: Callable[[str, bytes], None],
        number: Callable[[], int],
    ) -> None:
        self.node = node
        self.service = service
        self._lanes = lanes
        self._admit = admit
        self._here = here
        self._number = number
        self._template = DatagramTemplate(service)
        self._fixed = self._template.size
        self._head = b""
        self._size = -1
        self._lane: Lane | None = None
        self._token = CLOSED
        self._generation = -1
        self._until = 0.0
        self._producer: IPushProducer | None = None

    def send(self, data: bytes) -> None:
        """
        Send one message, at most L{limits.MAX_DATAGRAM<gmesh.endtoend.limits.MAX_DATAGRAM>} bytes.

        @raise SendRefused: as L{Datagrams.send<gmesh.endtoend.datagrams.Datagrams.send>}; C{busy} when
            there is no room, which a producer that pauses does not meet.
        """
        lane = self._lane
        size = len(data)
        if lane is None or self._token != lane.token or size > WHOLE_SIZE or type(data) is not bytes:
            self._send_first(bytes(data))
            return
        if size != self._size:
            self._size, self._head = size, self._template.head(size)
        total = lane.size + self._fixed + size
        if total > lane.limit:
            if lane.parts:
                lane.cut()
            if self._token != lane.token:
                self._send_first(data)
                return
            total = self._fixed + size
        lane.parts += self._head, data
        lane.size = total

    write = send

    def _send_first(self, data: bytes) -> None:
        """The first message of a turn, at once unless a producer writes; those after it are gathered."""
        self._token = -1
        lane = self._lane
        if len(data) > limits.MAX_DATAGRAM or not self._lanes.admitted(lane, self._generation, self._until):
            lane = self._ask(data)
        if lane is None:
            self._here(self.service, data)
        elif len(data) > WHOLE_SIZE:
            for frame in encode_datagram(self.service, self._number(), data, False):
                lane.send(frame)
        else:
            self._token = lane.gather() or -1
            if self._producer is not None and self._token == lane.token:
                self.send(data)  # who is paused in time need not know at once whether there is room
            else:
                lane.send(self._template.frame(0, data))

    def _ask(self, data: bytes) -> Lane | None:
        """Every check. @return: the lane, None if the node is this one."""
        self._generation = -1
        peer = self._admit(self.node, self.service, len(data))
        self._generation, self._until = self._lanes.generation, self._lanes.admit_until()
        return self._attach(peer)

    # IConsumer

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """
        Pause and resume C{producer}, an L{IPushProducer}, from now on.

        What it raises when told is counted (C{producer-failed}) and logged; it stays registered.

        @raise RuntimeError: if there is one already, or it is a pull producer.
        """
        if self._producer is not None or not streaming:
            raise RuntimeError("a flow takes one push producer")
        faults = Faults(self.service, self._lanes.counters)
        self._producer = GuardedProducer(IPushProducer(producer), faults)
        if self._lane is not None:
            self._lane.add_producer(self._producer)

    def unregisterProducer(self) -> None:
        """It has written its last message."""
        if self._producer is not None and self._lane is not None:
            self._lane.remove_producer(self._producer)
        self._producer = None

    def stop(self) -> None:
        """The node is stopping."""
        self._token = -1
        producer = self._producer
        self.unregisterProducer()
        if producer is not None:
            producer.stopProducing()

    def _attach(self, peer: Peer) -> Lane | None:
        """The lane to C{peer}, None if that is this node; the producer comes along when it changed."""
        lane = self._lanes.lane(peer)
        if lane is not self._lane:
            if self._producer is not None:
                if self._lane is not None:
                    self._lane.remove_producer(self._producer)
                if lane is not None:
                    lane.add_producer(self._producer)
            self._lane = lane
        return lane
