# SPDX-License-Identifier: MIT
"""
Keeps the route engine in step with the world: links, their costs, what is believed, and time.

Its part of a revocation happens in the same turn: certificates, records, verdicts and what is queued go
before control returns to L{gmesh.node.trust_changes}, which has all parts.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater

from gmesh.mesh.flooding import Flooding
from gmesh.mesh.forwarding import Forwarding
from gmesh.mesh.gossip import DocumentGossip
from gmesh.mesh.limits import (
    DRAIN_TIME,
    DUPLICATE_GRACE,
    HOUSEKEEPING_INTERVAL,
    RESYNC_INTERVAL,
)
from gmesh.mesh.members import MemberDirectory
from gmesh.mesh.neighbour import Neighbour, NeighbourObserver
from gmesh.mesh.neighbours import Neighbours
from gmesh.mesh.timers import cancel_calls
from gmesh.routing.engine import RouteEngine
from gmesh.routing.limits import MAX_FUTURE
from gmesh.wire.messages import CloseReason

__all__ = ["RouteUpdates"]


class RouteUpdates(NeighbourObserver):
    """
    What links, trust and time change about routes.

    @param wall: Unix seconds.
    """

    def __init__(
        self,
        engine: RouteEngine,
        neighbours: Neighbours,
        flooding: Flooding,
        forwarding: Forwarding,
        documents: DocumentGossip,
        directory: MemberDirectory,
        clock: IReactorTime,
        wall: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._neighbours = neighbours
        self._flooding = flooding
        self._forwarding = forwarding
        self._documents = documents
        self._directory = directory
        self._clock = clock
        self._wall = wall
        self._replaced: dict[bytes, IDelayedCall] = {}
        self._tick_call: IDelayedCall | None = None
        self._resync_at = 0.0
        self._ahead = 0.0
        self._running = False

    # -- life

    def start(self) -> None:
        """Begin to look after routing; the own record is signed soon after."""
        self._running = True
        self._apply_policy()
        self._resync_at = self._clock.seconds() + RESYNC_INTERVAL
        self._ahead = self._wall() - self._clock.seconds()
        self._tick_call = self._clock.callLater(HOUSEKEEPING_INTERVAL, self._tick)
        self._flooding.start()

    def drain(self) -> Deferred[None]:
        """Ask all nodes to route around us; fires when they had time to hear it. Cancelling it is safe."""
        self._engine.overload(self._clock.seconds())
        self._flooding.originate()
        return deferLater(self._clock, DRAIN_TIME)

    def stop(self) -> None:
        """Cancel every timer."""
        self._running = False
        self._flooding.stop()
        cancel_calls(self._tick_call, *self._replaced.values())
        self._tick_call = None
        self._replaced.clear()

    # -- NeighbourObserver

    def link_up(self, neighbour: Neighbour) -> None:
        """A link exists for routing: our record says so."""
        cancel_calls(self._replaced.pop(neighbour.handle, None))
        self._engine.link_up(neighbour.handle, neighbour.metric.cost, self._clock.seconds())
        self._flooding.originate()

    def link_down(self, neighbour: Neighbour, reason: str) -> None:
        """
        It is gone; the record says so at once.

        Of two links to one node the loser costs no change, if the winner is up within a second.
        """
        handle = neighbour.handle
        if reason == CloseReason.DUPLICATE.slug and self._running:
            self._replaced[handle] = self._clock.callLater(DUPLICATE_GRACE, self._lost, handle)
        else:
            self._lost(handle)

    def link_changed(self, neighbour: Neighbour) -> None:
        """It is suspect, or no longer, or its certificate was renewed."""
        neighbour.metric.suspect = neighbour.link.suspect
        self._engine.link_cost(neighbour.handle, neighbour.metric.cost, self._clock.seconds())
        self._flooding.originate()

    def _lost(self, handle: bytes) -> None:
        cancel_calls(self._replaced.pop(handle, None))
        self._engine.link_down(handle, self._clock.seconds())
        self._flooding.originate()

    # -- the own record

    def renewed(self) -> None:
        """Our own certificate is a newer one: records name it."""
        self._engine.originator.sign_again(self._clock.seconds())
        self._flooding.originate()

    def advertise(self, capabilities: tuple[tuple[int, bytes], ...]) -> None:
        """Addresses, services and version to advertise. @raise FrameRefused: if they are too many."""
        self._engine.originator.set_capabilities(capabilities, self._clock.seconds())
        self._flooding.originate()

    # -- what is believed

    def trust_changed(self, name: str) -> None:
        """Drop in this turn whatever rests on a certificate that is not believed any more."""
        now = self._clock.seconds()
        if name == "policy":
            self._apply_policy()
        elif name in ("crl", "genesis"):
            gone = {*self._directory.sweep(), *self._engine.revocations_changed(now)}
            for handle in gone - {self._engine.handle}:
                self._engine.revoke(handle, now)
                self._flooding.forget(handle)
                self._neighbours.purge(handle)
            if name == "genesis":
                self._directory.genesis_changed()
        self._forwarding.forget_verdicts()
        self._flooding.originate()

    def _apply_policy(self) -> None:
        policy = self._directory.trust.policy
        if policy is not None:
            body = policy.body
            self._engine.set_bounds(body.max_hops, body.max_nodes, self._clock.seconds())
            self._directory.max_nodes = self._engine.database.max_nodes

    # -- time

    def _tick(self) -> None:
        self._tick_call = self._clock.callLater(HOUSEKEEPING_INTERVAL, self._tick)
        now = self._clock.seconds()
        self._directory.expire()
        self._engine.expire(now, self._wall())
        self._flooding.housekeeping()
        self._documents.housekeeping()
        self._forwarding.housekeeping()
        for neighbour in self._neighbours:
            rtt = neighbour.link.rtt
            if rtt is not None and neighbour.metric.update(rtt, now):
                self._engine.link_cost(neighbour.handle, neighbour.metric.cost, now)
        if now >= self._resync_at:
            self._resync_at = now + RESYNC_INTERVAL
            self._flooding.resync()
        self._look_at_wall_clock(now)
        self._flooding.originate()

    def _look_at_wall_clock(self, now: float) -> None:
        """
        When it was set, sign again what bears the wrong time, and ask for what we refused because of it.

        Otherwise a clock that was wrong for a minute would hide what changed in it until the next refresh.
        """
        ahead = self._wall() - now
        if abs(ahead - self._ahead) > MAX_FUTURE:
            self._ahead = ahead
            self._engine.originator.sign_again(now)
            for _ in self._neighbours:
                self._flooding.resync()
