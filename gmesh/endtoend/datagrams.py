# SPDX-License-Identifier: MIT
"""
Messages to (node name, service), sealed, from a verified sender; on request acknowledged and exactly once.

The policy is asked at both ends: here before a message leaves, there before a receiver sees it.
Who hears that a service has another receiver, and in which order, is decided here too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime

from gmesh.endtoend import limits
from gmesh.endtoend.authorization import Authorization
from gmesh.endtoend.datagram_sender import DatagramSender
from gmesh.endtoend.services import Message, Receiver, Registration, Services
from gmesh.endtoend.sessions import Sessions
from gmesh.errors import SendRefused
from gmesh.mesh.peer_identity import Peer
from gmesh.wire.messages import Outcome

__all__ = ["Datagrams", "Delivered"]


@dataclass(frozen=True, slots=True)
class Delivered:
    """
    A message was handed to a receiver, or, if no acknowledgement was wanted, sent.

    @ivar rtt: seconds from sending it to its acknowledgement; None without one.
    """

    rtt: float | None


class Datagrams:
    """
    What applications on this node talk through.

    Reasons of L{SendRefused}: C{unknown-node}, C{bad-service}, C{too-large}, C{bad-timeout}, C{revoked},
    C{expired}, C{stale}, C{denied}, C{no-route}, C{too-far}, C{no-such-service}, C{busy}, C{refused},
    C{timed-out}, C{cancelled}, C{stopped}.

    @param advertise: called when this node has other services than before.
    @ivar authorization: who may send what to whom.
    @ivar admit: every check that can be made before a message leaves, as L{Authorization.admit}.
    @ivar decide: what the policy says of a message, as L{Authorization.decide}.
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
        self._sessions = sessions
        self._associations = sessions.associations
        self.authorization = authorization
        self._clock = clock
        self._advertise = advertise
        self.admit = authorization.admit
        self.decide = authorization.decide
        self.seek = authorization.seek
        self._number = itertools.count(1).__next__
        self._posts: dict[tuple[str, str], DatagramSender] = {}
        self._opened: dict[DatagramSender, None] = {}

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
        self.services.stop()
        self._sessions.stop()

    def ask_again(self, kind: str) -> None:
        """What is believed or allowed changed: it is asked before the next message, in both directions."""
        self._associations.ask_again()

    def register(
        self,
        service: str,
        receiver: Receiver,
        *,
        concurrent: int = limits.SERVICE_CONCURRENT,
        reserved: bool = False,
    ) -> Registration:
        """As L{Services.register}."""
        return self.services.register(
            service, receiver, concurrent=concurrent, reserved=reserved, changed=self._services_changed
        )

    def send(
        self,
        node: str,
        service: str,
        data: bytes,
        *,
        acknowledge: bool = True,
        timeout: float = limits.DEFAULT_TIMEOUT,
    ) -> Deferred[Delivered]:
        """
        Send C{data}, at most L{limits.MAX_DATAGRAM} bytes, to a service of a node.

        With C{acknowledge} it is repeated until its receiver has it or C{timeout} seconds have passed, and
        handed over once only. Cancelling the Deferred stops repeating.

        @return: Deferred of L{Delivered}; fails with L{SendRefused}.
        """
        if acknowledge and not 0 < timeout <= limits.MAX_TIMEOUT:
            detail = f"a timeout lies between 0 and {limits.MAX_TIMEOUT:g} seconds"
            return fail(SendRefused("bad-timeout", detail))
        data, since = bytes(data), self._clock.seconds()

        def sought(_: None) -> Deferred[Delivered]:
            return self._send(node, service, data, acknowledge, timeout - (self._clock.seconds() - since))

        return self.seek(node).addCallback(sought)

    def _send(
        self, node: str, service: str, data: bytes, acknowledge: bool, timeout: float
    ) -> Deferred[Delivered]:
        try:
            if not acknowledge:
                self.post(node, service, data)
                return succeed(Delivered(None))
            peer = self.admit(node, service, len(data))
            if peer.handle == self.own.handle:
                return self._deliver_here(service, data)
            result = self._associations.associate(peer).reliable.send(service, data, timeout)
        except SendRefused as refusal:
            return fail(refusal)
        return result.addCallback(Delivered)

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

    def _deliver_here(self, service: str, data: bytes) -> Deferred[Delivered]:
        own = self.own
        result: Deferred[Delivered] = Deferred()

        def done(outcome: Outcome) -> None:
            if outcome is Outcome.DELIVERED:
                result.callback(Delivered(0.0))
            else:
                result.errback(SendRefused(outcome.slug, f"{own.name} answers {outcome.slug} for {service}"))

        self.services.deliver(Message(own.name, own.node_id, own.roles, service, bytes(data)), done)
        return result

    def _drop_here(self, service: str, data: bytes) -> None:
        self._deliver_here(service, data).addErrback(lambda failure: failure.trap(SendRefused))

    def _services_changed(self) -> None:
        """First nothing more goes to an old receiver, then others hear of it."""
        self._associations.services_changed()
        self._advertise()
