# SPDX-License-Identifier: MIT
"""
An application's handle on one service of one node: what is the same for all its messages is asked once.

Within a turn the second and every later message costs a comparison, a look at its size and two appends.
Whatever could change the answer (policy, revocation, keys, pause) closes the batch, and the next
message asks for everything again.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IConsumer, IProducer, IPushProducer
from zope.interface import implementer

from gmesh.endtoend import limits
from gmesh.endtoend.application_faults import Faults, GuardedProducer
from gmesh.endtoend.association import Associations
from gmesh.endtoend.authorization import Authorization
from gmesh.endtoend.batching import CLOSED, BatchSender
from gmesh.endtoend.limits import WHOLE_SIZE
from gmesh.endtoend.reliable_queue import encode_datagram
from gmesh.mesh.peer_identity import Peer
from gmesh.wire.messages import DatagramTemplate

__all__ = ["DatagramSender"]


@implementer(IConsumer)
class DatagramSender:
    """
    Unacknowledged messages to (node, service): L{send}, or as a Twisted consumer, one message per C{write}.

    A push producer registered here is paused while there is no room or no key, so nothing of it is
    dropped on this host.

    @param here: takes a message to a service of this node.
    @param number: gives the next number of a message that must be cut.
    """

    __slots__ = (
        "__weakref__",
        "_associations",
        "_authorization",
        "_batch",
        "_fixed",
        "_generation",
        "_head",
        "_here",
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
        associations: Associations,
        authorization: Authorization,
        here: Callable[[str, bytes], None],
        number: Callable[[], int],
    ) -> None:
        self.node = node
        self.service = service
        self._associations = associations
        self._authorization = authorization
        self._here = here
        self._number = number
        self._template = DatagramTemplate(service)
        self._fixed = self._template.size
        self._head = b""
        self._size = -1
        self._batch: BatchSender | None = None
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
        batch = self._batch
        size = len(data)
        if batch is None or self._token != batch.token or size > WHOLE_SIZE or type(data) is not bytes:
            self._send_first(bytes(data))
            return
        if size != self._size:
            self._size, self._head = size, self._template.head(size)
        total = batch.size + self._fixed + size
        if total > batch.limit:
            if batch.parts:
                batch.cut()
            if self._token != batch.token:
                self._send_first(data)
                return
            total = self._fixed + size
        batch.parts += self._head, data
        batch.size = total

    write = send

    def _send_first(self, data: bytes) -> None:
        """The first message of a turn, at once unless a producer writes it; those after it are gathered."""
        self._token = -1
        batch = self._batch
        if len(data) > limits.MAX_DATAGRAM or not self._associations.admitted(
            batch, self._generation, self._until
        ):
            batch = self._ask(data)
        if batch is None:
            self._here(self.service, data)
            return
        batch.watch()
        if len(data) > WHOLE_SIZE:
            for frame in encode_datagram(self.service, self._number(), data, False):
                batch.send(frame)
        else:
            self._token = batch.gather() or -1
            if self._producer is not None and self._token == batch.token:
                self.send(data)  # a producer is paused in time: whether there is room may come out later
            else:
                batch.send(self._template.frame(0, data))

    def _ask(self, data: bytes) -> BatchSender | None:
        """Every check. @return: the batch, None if the node is this one."""
        self._generation = -1
        peer = self._authorization.admit(self.node, self.service, len(data))
        batch = self._attach(peer)
        self._generation, self._until = self._associations.generation, self._associations.admit_until()
        return batch

    # IConsumer

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """
        Pause and resume C{producer}, an L{IPushProducer}, from now on.

        What it raises then is counted (C{producer-failed}) and logged; it stays registered.

        @raise RuntimeError: if there is one already, or it is a pull producer.
        """
        if self._producer is not None or not streaming:
            raise RuntimeError("a datagram sender takes one push producer")
        faults = Faults(self.service, self._associations.counters)
        self._producer = GuardedProducer(IPushProducer(producer), faults)
        if self._batch is not None:
            self._batch.add_producer(self._producer)

    def unregisterProducer(self) -> None:
        """It has written its last message."""
        if self._producer is not None and self._batch is not None:
            self._batch.remove_producer(self._producer)
        self._producer = None

    def stop(self) -> None:
        """The node is stopping."""
        self._token = -1
        producer = self._producer
        self.unregisterProducer()
        if producer is not None:
            producer.stopProducing()

    def _attach(self, peer: Peer) -> BatchSender | None:
        """The batch to C{peer}, None if that is this node; the producer comes along when it changed."""
        batch = self._associations.batch(peer)
        if batch is not self._batch:
            if self._producer is not None:
                if self._batch is not None:
                    self._batch.remove_producer(self._producer)
                if batch is not None:
                    batch.add_producer(self._producer)
            self._batch = batch
        return batch
