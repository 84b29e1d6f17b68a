# SPDX-License-Identifier: MIT
"""
Keeps the route engine in step with the world: links, their costs, what is believed, and time.

Everything that must happen in the turn of a revocation happens here: records, certificates and
verdicts go before control returns to the caller.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater

from gmesh.interfaces import ILink
from gmesh.mesh.certificates import CertificateBook
from gmesh.mesh.documents import DocumentGossip
from gmesh.mesh.flooding import Flooding
from gmesh.mesh.forwarding import Forwarding
from gmesh.mesh.network_limits import (
    DRAIN_TIME,
    DUPLICATE_GRACE,
    HOUSEKEEPING_INTERVAL,
    RESYNC_INTERVAL,
    TICK,
)
from gmesh.routing.engine import RouteEngine
from gmesh.routing.limits import MAX_FUTURE
from gmesh.routing.metric import LinkMetric
from gmesh.trust.state import TrustState
from gmesh.wire.messages import CloseReason

__all__ = ["RouteKeeper"]


class RouteKeeper:
    """
    A listener of L{gmesh.mesh.peers.Peers} and of L{TrustState} on behalf of routing.

    @param wall: Unix seconds.
    @ivar each_tick: called with every housekeeping.
    @param sequence_used: called with the sequence after each origination, to be persisted behind it.
    """

    def __init__(
        self,
        engine: RouteEngine,
        flooding: Flooding,
        forwarding: Forwarding,
        documents: DocumentGossip,
        book: CertificateBook,
        trust: TrustState,
        clock: IReactorTime,
        wall: Callable[[], float],
        sequence_used: Callable[[int], object] = lambda sequence: None,
    ) -> None:
        self._engine = engine
        self._flooding = flooding
        self._forwarding = forwarding
        self._documents = documents
        self._book = book
        self._trust = trust
        self._clock = clock
        self._wall = wall
        self._sequence_used = sequence_used
        self._links: dict[bytes, tuple[ILink, LinkMetric]] = {}
        self._replaced: dict[bytes, IDelayedCall] = {}
        self._own_call: IDelayedCall | None = None
        self._tick_call: IDelayedCall | None = None
        self._resync_at = 0.0
        self._ahead = 0.0
        self._running = False
        self.each_tick: Callable[[], object] = lambda: None

    # -- life

    def start(self) -> None:
        """Begin to look after routing; the own record is signed soon after."""
        self._running = True
        self._trust.observers.insert(0, self.trust_changed)
        self._flooding.own_due = self.schedule
        self._documents.start()
        self._apply_policy()
        self._resync_at = self._clock.seconds() + RESYNC_INTERVAL
        self._ahead = self._wall() - self._clock.seconds()
        self._tick_call = self._clock.callLater(HOUSEKEEPING_INTERVAL, self._tick)
        self.schedule()

    def drain(self) -> Deferred[None]:
        """Ask everybody to route around us; fires when they had time to hear it. Cancelling it is safe."""
        self._engine.overload(self._clock.seconds())
        self.schedule()
        return deferLater(self._clock, DRAIN_TIME)

    def stop(self) -> None:
        """Cancel every timer."""
        self._running = False
        if self.trust_changed in self._trust.observers:
            self._trust.observers.remove(self.trust_changed)
        self._documents.stop()
        self._flooding.stop()
        for call in (self._own_call, self._tick_call, *self._replaced.values()):
            if call is not None and call.active():
                call.cancel()
        self._own_call = self._tick_call = None
        self._replaced.clear()

    # -- gmesh.mesh.peers.PeersListener

    def link_up(self, link: ILink) -> None:
        """A link exists for routing."""
        handle = link.peer.handle
        metric = LinkMetric(link.rtt)
        self._links[handle] = (link, metric)
        replaced = self._replaced.pop(handle, None)
        if replaced is not None and replaced.active():
            replaced.cancel()
        self._engine.link_up(handle, metric.cost, self._clock.seconds())
        self._forwarding.forget_verdicts()
        self.schedule()

    def link_down(self, link: ILink, reason: str) -> None:
        """
        It is gone; the record says so at once.

        Of two links to one node the loser costs no change, if the winner is up within a second.
        """
        handle = link.peer.handle
        held = self._links.get(handle)
        if held is None or held[0] is not link:
            return
        del self._links[handle]
        self._forwarding.forget_verdicts()
        if reason == CloseReason.DUPLICATE.slug and self._running:
            self._replaced[handle] = self._clock.callLater(DUPLICATE_GRACE, self._lost, handle)
        else:
            self._lost(handle)

    def link_changed(self, link: ILink) -> None:
        """It is suspect, or no longer, or its certificate was renewed."""
        held = self._links.get(link.peer.handle)
        if held is not None and held[0] is link:
            held[1].suspect = link.suspect
            self._forwarding.forget_verdicts()
            self._engine.link_cost(link.peer.handle, held[1].cost, self._clock.seconds())
            self.schedule()

    def _lost(self, handle: bytes) -> None:
        replaced = self._replaced.pop(handle, None)
        if replaced is not None and replaced.active():
            replaced.cancel()
        self._engine.link_down(handle, self._clock.seconds())
        self.schedule()

    # -- the own record

    def schedule(self) -> None:
        """Sign what is due of our own record, now or at its time."""
        if not self._running:
            return
        if self._own_call is not None and self._own_call.active():
            self._own_call.cancel()
        self._own_call = None
        now = self._clock.seconds()
        due = self._engine.next_due()
        if due is not None and due <= now:
            self._originate(now)
            due = self._engine.next_due()
        if due is not None:
            self._own_call = self._clock.callLater(max(0.0, due - now) + TICK, self.schedule)

    def renewed(self) -> None:
        """Our own certificate is a newer one: records name it."""
        self._engine.originator.sign_again(self._clock.seconds())
        self.schedule()

    def advertise(self, capabilities: tuple[tuple[int, bytes], ...]) -> None:
        """Addresses, services and version to tell. @raise FrameRefused: if they are too many."""
        self._engine.originator.set_capabilities(capabilities, self._clock.seconds())
        self.schedule()

    def _originate(self, now: float) -> None:
        made = self._engine.originate(now, self._wall())
        if made:
            self._sequence_used(self._engine.sequence)
        for key, data in made:
            self._flooding.spread(key, data)

    # -- what is believed

    def trust_changed(self, name: str) -> None:
        """
        Drop in this turn whatever rests on a certificate that is not believed any more.

        Called before other observers of trust, so that they find routes already without it.
        """
        now = self._clock.seconds()
        if name == "policy":
            self._apply_policy()
        elif name in ("crl", "genesis"):
            gone = {*self._book.sweep(), *self._engine.revocations_changed(now)}
            for handle in gone - {self._engine.handle}:
                self._engine.revoke(handle, now)
                self._flooding.forget(handle)
            if name == "genesis":
                self._book.genesis_changed()
        self._forwarding.forget_verdicts()
        self.schedule()

    def _apply_policy(self) -> None:
        policy = self._trust.policy
        if policy is not None:
            body = policy.body
            self._engine.set_bounds(body.max_hops, body.max_nodes, self._clock.seconds())
            self._book.max_nodes = self._engine.database.max_nodes

    # -- time

    def _tick(self) -> None:
        self._tick_call = self._clock.callLater(HOUSEKEEPING_INTERVAL, self._tick)
        now = self._clock.seconds()
        self._book.expire()
        self._engine.expire(now, self._wall())
        self._flooding.housekeeping()
        self._documents.housekeeping()
        self._forwarding.housekeeping()
        for handle, (link, metric) in self._links.items():
            if link.rtt is not None and metric.update(link.rtt, now):
                self._engine.link_cost(handle, metric.cost, now)
        if now >= self._resync_at:
            self._resync_at = now + RESYNC_INTERVAL
            self._flooding.resync()
        self._look_at_wall_clock(now)
        self.each_tick()
        self.schedule()

    def _look_at_wall_clock(self, now: float) -> None:
        """
        When it was set, sign anew what bears the wrong time, and ask each neighbour what we refused by it.

        Otherwise a clock that was wrong for a minute would hide what changed in it until the next refresh.
        """
        ahead = self._wall() - now
        if abs(ahead - self._ahead) > MAX_FUTURE:
            self._ahead = ahead
            self._engine.originator.sign_again(now)
            for _ in self._links:
                self._flooding.resync()
