# SPDX-License-Identifier: MIT
"""
Messages to (node name, service), sealed, from a verified sender; on request acknowledged and exactly once.

The policy is asked at both ends: here before a message leaves, there before a receiver sees it.
Who hears that a service has another receiver, and in which order, is decided here too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from gmesh.endtoend import limits
from gmesh.endtoend.association import Association
from gmesh.endtoend.authorization import Authorization
from gmesh.endtoend.datagram_sender import DatagramSender
from gmesh.endtoend.local_delivery import LocalDelivery
from gmesh.endtoend.reliable_queue import Delivered, ReliableMessage, Told
from gmesh.endtoend.service_queue import Keeper
from gmesh.endtoend.services import Message, Receiver, Registration, Services
from gmesh.endtoend.sessions import Sessions
from gmesh.errors import FrameRefused, SendRefused
from gmesh.mesh.peer_identity import Peer
from gmesh.wire.messages import check_key

__all__ = ["Datagrams", "Delivered"]


class Datagrams:
    """
    What applications on this node talk through.

    Reasons of L{SendRefused}: C{unknown-node}, C{bad-service}, C{too-large}, C{bad-timeout}, C{revoked},
    C{expired}, C{stale}, C{denied}, C{no-route}, C{too-far}, C{no-such-service}, C{busy}, C{refused},
    C{receiver-gone}, C{no-keys}, C{timed-out}, C{cancelled}, C{stopped}.

    @param advertise: called when this node has other services than before.
    @ivar authorization: who may send what to whom.
    @ivar admit: every check that can be made before a message leaves, as L{Authorization.admit}.
    @ivar decide: what the policy says of a message, as L{Authorization.decide}.
    @ivar hold: called with seconds, and seconds: for so long from now acknowledged messages to a service that
        has no receiver wait for one, each at most so long.
    @ivar turn: who reads many messages of a program at once holds its end.
    @ivar seek: find a node before anything is sent to it, as L{Authorization.seek}.
    """

    def __init__(
        self,
        *,
        sessions: Sessions,
        services: Services,
        authorization: Authorization,
        clock: IReactorTime,
        advertise: Callable[[], None] = lambda: None,
    ) -> None:
        self.services = services
        self.counters = sessions.counters
        self.turn = sessions.turn
        self._sessions = sessions
        self._associations = sessions.associations
        self.authorization = authorization
        self._clock = clock
        self._advertise = advertise
        self.hold = services.hold
        self.admit = authorization.admit
        self.decide = authorization.decide
        self.seek = authorization.seek
        self._number = itertools.count(1).__next__
        self._posts: dict[tuple[str, str], DatagramSender] = {}
        self._admitted: dict[tuple[str, str], tuple[Association, int, float]] = {}
        self._looked: tuple[int, int, tuple[str, str]] | None = None
        self._opened: WeakKeyDictionary[DatagramSender, None] = WeakKeyDictionary()
        self._local: dict[LocalDelivery, None] = {}

    @property
    def own(self) -> Peer:
        """This node, as its current certificate says."""
        return self.authorization.own

    def start(self) -> None:
        """Send and receive from now on."""
        self._sessions.start()
        self.authorization.start()

    def stop(self) -> None:
        """Fail what is under way, and wipe every session."""
        self.authorization.open = False
        self._associations.ask_again()
        for sender in list(self._opened):
            sender.stop()
        for association in self._associations:
            association.reliable.fail_all("stopped")
        for delivery in list(self._local):
            delivery.stop()
        self.services.stop()
        self._sessions.stop()

    def ask_again(self, kind: str) -> None:
        """What is believed or allowed changed: it is asked before the next message, in both directions."""
        self._associations.ask_again()

    def register(
        self,
        service: str,
        receiver: Receiver | Keeper,
        *,
        concurrent: int = limits.SERVICE_CONCURRENT,
        reserved: bool = False,
        owner: object = None,
        shared: bool = False,
        keeps: bool = False,
    ) -> Registration:
        """As L{Services.register}."""
        return self.services.register(
            service,
            receiver,
            concurrent=concurrent,
            reserved=reserved,
            owner=owner,
            shared=shared,
            keeps=keeps,
            changed=self._services_changed,
        )

    def send(
        self,
        node: str,
        service: str,
        data: bytes,
        *,
        acknowledge: bool = True,
        timeout: float = limits.DEFAULT_TIMEOUT,
        key: str = "",
    ) -> Deferred[Delivered]:
        """
        Send C{data}, at most L{limits.MAX_DATAGRAM} bytes, to a service of a node.

        With C{acknowledge} it is repeated until the node has it or C{timeout} seconds have passed, and the
        Deferred fires when its receiver is done with it.  Cancelling the Deferred stops repeating.

        @param key: names the message over several calls: once it was acknowledged it is never handed over
            again, and a call with the same key succeeds. 1 to 64 printable ASCII characters.
        @return: Deferred of L{Delivered}; fails with L{SendRefused}.
        """
        if acknowledge and not 0 < timeout <= limits.MAX_TIMEOUT:
            detail = f"a timeout lies between 0 and {limits.MAX_TIMEOUT:g} seconds"
            return fail(SendRefused("bad-timeout", detail))
        try:
            if key:
                check_key(key)
        except FrameRefused as refusal:
            return fail(SendRefused("bad-key", refusal.detail))
        data, since = bytes(data), self._clock.seconds()

        def sought(_: None) -> Deferred[Delivered]:
            if not acknowledge:
                return self._post(node, service, data)
            return self._send(node, service, data, timeout - (self._clock.seconds() - since), key)

        found = self.seek(node, timeout)
        if found.called and found.result is None:
            return sought(None)
        return found.addCallback(sought)

    def begin(
        self, node: str, service: str, data: bytes, timeout: float, told: Told
    ) -> ReliableMessage | None:
        """
        Send, as L{send} without a key, and without a Deferred, what was allowed a moment ago.

        @param told: called later with what became of it.
        @return: its C{cancel} gives it up; None if it must be asked first, by L{send}, whether it is allowed.
        @raise SendRefused: C{busy}.
        """
        place = node, service
        known = self._admitted.get(place)
        if known is None or not 0 < timeout <= limits.MAX_TIMEOUT or len(data) > limits.MAX_DATAGRAM:
            return None
        association, generation, until = known
        now = self._associations.generation, self.turn.number, place
        if now != self._looked or not self.turn.held:  # else all of that was just looked at
            if not self._associations.admitted(association.batch, generation, until):
                return None
            self._looked = now
        return association.reliable.begin(service, data, timeout, "", told)

    def _post(self, node: str, service: str, data: bytes) -> Deferred[Delivered]:
        try:
            self.post(node, service, data)
        except SendRefused as refusal:
            return fail(refusal)
        return succeed(Delivered(None))

    def _send(self, node: str, service: str, data: bytes, timeout: float, key: str) -> Deferred[Delivered]:
        known = self._admitted.get((node, service))
        try:
            if known is not None and len(data) <= limits.MAX_DATAGRAM:
                association, generation, until = known
                if self._associations.admitted(association.batch, generation, until):
                    return association.reliable.send(service, data, timeout, key)
            peer = self.admit(node, service, len(data))
            if peer.handle == self.own.handle:
                return self._deliver_here(service, data, timeout, key)
            association = self._associations.associate(peer)
            if len(self._admitted) >= limits.MAX_POSTS:
                self._admitted.clear()
            self._admitted[node, service] = (
                association,
                self._associations.generation,
                self._associations.admit_until(),
            )
            return association.reliable.send(service, data, timeout, key)
        except SendRefused as refusal:
            return fail(refusal)

    def open(self, node: str, service: str) -> DatagramSender:
        """
        The handle for many messages without acknowledgement to one service of a node.

        Nothing is checked before its first message.
        """
        sender = self._sender(node, service)
        self._opened[sender] = None
        return sender

    def post(self, node: str, service: str, data: bytes) -> None:
        """
        Send C{data} once, without acknowledgement and without a Deferred.

        @raise SendRefused: as L{send}; C{busy} when there is no room towards the node.
        """
        sender = self._posts.get((node, service))
        if sender is None:
            self.admit(node, service, len(data))
            if len(self._posts) >= limits.MAX_POSTS:
                self._posts.clear()
            sender = self._posts[node, service] = self._sender(node, service)
        sender.send(data)

    def prepare(self, peer: Peer, then: Callable[[], None] | None = None) -> bool:
        """
        See that there are keys for C{peer}, so that what is measured next is not the handshake.

        @param then: called once when there are, if there are none yet; not at all if there never are.
        @return: True if there are.
        @raise SendRefused: C{busy}.
        """
        association = self._associations.associate(peer)
        if self._sessions.ready(association):
            return True
        if then is not None:
            association.waiting.append(then)
        return False

    def _sender(self, node: str, service: str) -> DatagramSender:
        return DatagramSender(
            node, service, self._associations, self.authorization, self._drop_here, self._number
        )

    def _deliver_here(self, service: str, data: bytes, timeout: float, key: str) -> Deferred[Delivered]:
        delivery = LocalDelivery(self.services, self._from_here(service, data, key), timeout, self._clock)
        if not delivery.result.called:
            self._local[delivery] = None
            delivery.result.addBoth(self._delivered_here, delivery)
        return delivery.result

    def _delivered_here(self, result: Delivered | Failure, delivery: LocalDelivery) -> Delivered | Failure:
        del self._local[delivery]
        return result

    def _drop_here(self, service: str, data: bytes) -> None:
        message = self._from_here(service, data)
        self.services.deliver(message, lambda outcome, said, answer: None, waits=False)

    def _from_here(self, service: str, data: bytes, key: str = "") -> Message:
        own = self.own
        return Message(own.name, own.node_id, own.roles, service, bytes(data), key)

    def _services_changed(self) -> None:
        """First nothing more goes to an old receiver, then others hear of it."""
        self._associations.services_changed()
        self._advertise()
