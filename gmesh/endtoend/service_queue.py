# SPDX-License-Identifier: MIT
"""
One service of this node: the receivers that share its work, what they are busy with, what waits for them.

Tests: C{tests/endtoend/test_services.py}, C{tests/endtoend/test_outcomes.py}.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from gmesh.endtoend import limits
from gmesh.endtoend.application_faults import Faults
from gmesh.wire.messages import Outcome

__all__ = ["Delivery", "Done", "Keeper", "Message", "Receiver", "ServiceQueue", "Taker"]


class Message(NamedTuple):
    """
    A datagram as its receiver gets it.

    @ivar source_name: name of the node that sealed it, as the authority certified.
    @ivar source_id: its node_id.
    @ivar roles: its certified roles.
    @ivar key: by which its sender knows it again; empty without one.
    @ivar redelivered: True if it may have been handed over before, to a receiver that did not end with it.
    """

    source_name: str
    source_id: str
    roles: tuple[str, ...]
    service: str
    data: bytes
    key: str = ""
    redelivered: bool = False

    def __repr__(self) -> str:
        return f"<Message from {self.source_name} to {self.service}, {len(self.data)} bytes>"


Receiver = Callable[[Message], Deferred[Any] | Coroutine[Deferred[Any], Any, Any] | None]
"""
Takes a message. What it does reaches nobody but itself, and the sender of an acknowledged message:

 - it returns None: it is done with the message;
 - it returns a Deferred or a coroutine: the receiver is busy until that is done, and with it the message; a
   result of bytes goes back to the sender, its failure refuses the message, is counted (C{receiver-failed}),
   and logged;
 - it returns anything else, True and False too: as None, counted (C{receiver-odd}) and logged;
 - it raises L{GmeshError}: the message is refused, which is counted (C{receiver-refused});
 - it raises anything else, C{SystemExit} too: the message is refused, which is counted
   (C{receiver-failed}) and logged.

The sender is told C{detail} of a L{GmeshError}, and of other errors only that there was one.
It may register and unregister services, itself too, and stop the node: that holds for the next message.
"""

Done = Callable[[Outcome, str, bytes], None]
"""Called once with what became of a message, what its receiver says of it, and what it gives back."""


Keeper = Callable[["Delivery"], None]
"""A receiver that says later itself what it comes to: L{Services.ended} or L{Services.refused}, once."""


class Delivery:
    """
    A message on its way to a receiver.

    @ivar done: called once.
    @ivar handed: called when it is handed over, if that is of interest.
    @ivar hands: how often it was.
    @ivar taker: who has it.
    @ivar waiting: others who want to know what becomes of it: its sender sent it again under its key.
    """

    __slots__ = ("done", "handed", "hands", "message", "taker", "waiting")

    def __init__(self, message: Message, done: Done, handed: Callable[[], None] | None = None) -> None:
        self.message = message
        self.done = done
        self.handed = handed
        self.hands = 0
        self.taker: Taker | None = None
        self.waiting: tuple[Done, ...] = ()


class Taker:
    """
    One receiver of a service.

    @ivar keeps: it is a L{Keeper}.
    @ivar concurrent: how many messages it may be busy with.
    @ivar pending: those it is busy with.
    """

    __slots__ = ("concurrent", "faults", "keeps", "pending", "receiver")

    def __init__(
        self, receiver: Receiver | Keeper, concurrent: int, faults: Faults, keeps: bool = False
    ) -> None:
        self.receiver: Callable[[Any], Any] = receiver
        self.keeps = keeps
        self.concurrent = concurrent
        self.faults = faults
        self.pending: dict[Delivery, None] = {}

    @property
    def free(self) -> int:
        """How many more messages it takes."""
        return self.concurrent - len(self.pending)


class ServiceQueue:
    """
    The receivers of one service, and a bounded queue before them.

    @ivar owner: whose service it is.
    @ivar shared: several receivers may share its messages.
    @ivar ends: when nobody has come back to it.
    """

    __slots__ = ("_peers", "bytes", "draining", "ends", "owner", "queue", "service", "shared", "takers")

    def __init__(self, service: str, owner: object) -> None:
        self.service = service
        self.owner = owner
        self.shared = False
        self.takers: list[Taker] = []
        self.queue: OrderedDict[Delivery, None] = OrderedDict()
        self.bytes = 0
        self.draining = False
        self.ends: IDelayedCall | None = None
        self._peers: Counter[tuple[str, bool]] = Counter()

    def free(self) -> Taker | None:
        """The receiver for the next message: the one that is least busy, if one is free."""
        takers = self.takers
        if len(takers) == 1:
            only = takers[0]
            return only if len(only.pending) < only.concurrent else None
        taker = max(takers, key=lambda one: one.free, default=None)
        return taker if taker is not None and taker.free > 0 else None

    def has_room(self, source_id: str, size: int) -> bool:
        """True if a message of so many bytes from that node is taken now."""
        return self.free() is not None or (
            self._peers[source_id, False] < limits.SERVICE_QUEUE_MESSAGES
            and self._peers[source_id, True] + size <= limits.SERVICE_QUEUE_BYTES
            and len(self.queue) < limits.SERVICE_TOTAL_MESSAGES
            and self.bytes + size <= limits.SERVICE_TOTAL_BYTES
        )

    def wait(self, delivery: Delivery, first: bool = False) -> None:
        """Keep it until a receiver is free."""
        self.queue[delivery] = None
        if first:
            self.queue.move_to_end(delivery, last=False)
        self._count(delivery.message, 1)

    def next(self) -> Delivery:
        """The one that has waited longest."""
        delivery, _ = self.queue.popitem(last=False)
        self._count(delivery.message, -1)
        return delivery

    def drop(self, delivery: Delivery) -> bool:
        """Let it wait no more. @return: whether it did."""
        if delivery not in self.queue:
            return False
        del self.queue[delivery]
        self._count(delivery.message, -1)
        return True

    def purge(self, source_id: str) -> int:
        """Drop what waits of that node. @return: how many."""
        gone = [delivery for delivery in self.queue if delivery.message.source_id == source_id]
        for delivery in gone:
            self.drop(delivery)
        return len(gone)

    def _count(self, message: Message, sign: int) -> None:
        size = sign * len(message.data)
        self.bytes += size
        source = message.source_id
        self._peers[source, False] += sign
        self._peers[source, True] += size
        if not self._peers[source, False]:
            del self._peers[source, False], self._peers[source, True]

    def cancel(self) -> None:
        """It does not end by itself."""
        if self.ends is not None and self.ends.active():
            self.ends.cancel()
        self.ends = None
