# SPDX-License-Identifier: MIT
"""
Messages to (node name, service), sealed, from a verified sender, if wanted acknowledged and exactly once.

The policy is asked at both ends: here before a message leaves, there before a receiver sees it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime

from gmesh.endtoend import limits
from gmesh.endtoend.admission import Admission, Explain, Seek
from gmesh.endtoend.flow import Flow
from gmesh.endtoend.inbound import Inbound
from gmesh.endtoend.lanes import Lanes
from gmesh.endtoend.outbound import Outbound
from gmesh.endtoend.permissions import Permissions
from gmesh.endtoend.services import Message, Receiver, Registration, Services
from gmesh.endtoend.sessions import Sessions
from gmesh.errors import SendRefused
from gmesh.interfaces import IRouteEngine
from gmesh.mesh.peer_identity import Peer
from gmesh.trust.state import TrustState
from gmesh.wire.messages import Outcome

__all__ = ["Datagrams", "Delivered"]


@dataclass(frozen=True, slots=True)
class Delivered:
    """
    A message was handed to a receiver, or, if no acknowledgement was wanted, sent on its way.

    @ivar rtt: seconds from sending it to its acknowledgement; None without one.
    """

    rtt: float | None


class Datagrams:
    """
    What applications on this node talk through.

    Reasons of L{SendRefused}: C{unknown-node}, C{bad-service}, C{too-large}, C{bad-timeout}, C{revoked},
    C{expired}, C{stale}, C{denied}, C{no-route}, C{too-far}, C{no-such-service}, C{busy}, C{refused},
    C{timed-out}, C{cancelled}, C{stopped}.

    @param own: this node, as its current certificate says.
    @param find_name: the directory, by node name.
    @param explain: why there is no path.
    @param seek: finds nodes, where this node keeps no table of them.
    @ivar admit: every check that can be made before a message leaves, as L{Admission.admit}.
    @ivar decide: what the policy says of a message, as L{Admission.decide}.
    @ivar seek: find a node before anything is sent to it, as L{Admission.seek}.
    @param entropy: as C{os.urandom}, for the numbers of messages.
    @param advertise: tells everybody which services there are.
    @param lapsed: True when this node has not heard from the authority for longer than the policy allows.
    """

    def __init__(
        self,
        *,
        sessions: Sessions,
        trust: TrustState,
        own: Callable[[], Peer],
        find_name: Callable[[str], Peer | None],
        routes: IRouteEngine,
        clock: IReactorTime,
        wall: Callable[[], float],
        entropy: Callable[[int], bytes],
        explain: Explain | None = None,
        seek: Seek | None = None,
        lapsed: Callable[[], bool] = lambda: False,
        advertise: Callable[[], None] = lambda: None,
    ) -> None:
        self.services = Services(self._services_changed)
        self._advertise = advertise
        self._sessions = sessions
        self._own = own
        self._clock = clock
        self.permissions = Permissions(trust, own, lapsed)
        self._admission = Admission(
            trust=trust,
            own=own,
            find_name=find_name,
            routes=routes,
            permissions=self.permissions,
            clock=clock,
            wall=wall,
            explain=explain,
            seek=seek,
        )
        self.admit = self._admission.admit
        self.decide = self._admission.decide
        self.seek = self._admission.seek
        self._lanes = Lanes(sessions, clock)
        start = int.from_bytes(entropy(4), "big")
        self._outbound = Outbound(sessions, self._lanes, trust, routes, clock, start)
        self._inbound = Inbound(
            sessions, self.services, self.permissions, self._lanes, clock, self._outbound.receipt
        )
        self.opened = self._inbound.opened
        self.counters = sessions.counters
        self._number = itertools.count(1).__next__
        self._posts: dict[tuple[str, str], Flow] = {}
        self._opened: dict[Flow, None] = {}
        self._prepared: dict[bytes, list[Callable[[], None]]] = {}
        sessions.serve(self)

    def start(self) -> None:
        """Send and receive from now on."""
        self._admission.open = True
        self._sessions.start()

    def stop(self) -> None:
        """Fail what is under way, and wipe every session."""
        self._admission.open = False
        self._lanes.ask_again()
        for flow in list(self._opened):
            flow.stop()
        self._outbound.stop()
        self.services.stop()
        self._inbound.stop()
        self._sessions.stop()

    def register(
        self,
        service: str,
        receiver: Receiver,
        *,
        concurrent: int = limits.SERVICE_CONCURRENT,
        reserved: bool = False,
    ) -> Registration:
        """As L{Services.register}."""
        return self.services.register(service, receiver, concurrent=concurrent, reserved=reserved)

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
            if peer.handle == self._own().handle:
                return self._deliver_here(service, data)
            result = self._outbound.add(peer, service, data, timeout)
        except SendRefused as refusal:
            return fail(refusal)
        return result.addCallback(Delivered)

    def open(self, node: str, service: str) -> Flow:
        """
        The handle for many messages without acknowledgement to one service of a node.

        Nothing is checked before its first message.
        """
        flow = Flow(node, service, self._lanes, self.admit, self._drop_here, self._number)
        self._opened[flow] = None
        return flow

    def post(self, node: str, service: str, data: bytes) -> None:
        """
        Send C{data} once, without acknowledgement and without a Deferred.

        @raise SendRefused: as L{send}; C{busy} when there is no room towards the node.
        """
        flow = self._posts.get((node, service))
        if flow is None:
            self.admit(node, service, len(data))
            if len(self._posts) >= limits.MAX_POSTS:
                self._posts.clear()
            flow = Flow(node, service, self._lanes, self.admit, self._drop_here, self._number)
            self._posts[node, service] = flow
        flow.send(data)

    def prepare(self, peer: Peer, then: Callable[[], None] | None = None) -> bool:
        """
        See that there are keys for C{peer}, so that what is measured next is not the handshake.

        @param then: called once when there are, if there are none yet; not at all if there never are.
        @return: True if there are.
        @raise SendRefused: C{busy}.
        """
        if self._sessions.ready(peer):
            return True
        if then is not None:
            self._prepared.setdefault(peer.handle, []).append(then)
        return False

    def _deliver_here(self, service: str, data: bytes) -> Deferred[Delivered]:
        own = self._own()
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

    def ask_again(self, kind: str) -> None:
        """What is believed or allowed changed: admission is asked before the next message, both ways."""
        self._lanes.ask_again()
        self._inbound.ask_again()

    def _services_changed(self) -> None:
        """First nothing more goes the old way in, then others hear of it."""
        self._inbound.ask_again()
        self._advertise()

    # what sessions tell

    def ready(self, handle: bytes) -> None:
        """There are new keys for C{handle}: send what waits."""
        for then in self._prepared.pop(handle, ()):
            then()
        self._lanes.ready(handle)
        self._outbound.ready(handle)

    def bounced(self, handle: bytes, counter: int, reason: str) -> None:
        """A relay did not pass on a frame: slow down, and send again soon."""
        self._lanes.bounced(handle)
        self._outbound.bounced(handle, counter)

    def gone(self, handle: bytes, reason: str) -> None:
        """A peer was given up."""
        self._prepared.pop(handle, None)
        self._inbound.gone(handle, reason)
        self._lanes.gone(handle)
        self._outbound.gone(handle, reason)
