# SPDX-License-Identifier: MIT
"""
The only composer: one node of the mesh from its identity, given the time and how to connect.

Nothing here knows of daemons, files or sockets, so that L{gmesh.testing.mesh} runs the same object
on a fake clock.  Each layer is built here from the ones below it and handed to those above.
Tests: C{tests/node/test_memory_mesh.py}, C{tests/node/test_tap.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import deferLater
from twisted.logger import Logger, LogLevel

from gmesh.endtoend.services import is_reserved
from gmesh.interfaces import ILink
from gmesh.mesh.control_budget import ControlBudgets
from gmesh.mesh.counters import Counters
from gmesh.mesh.hop_sessions import SessionMaker, xx_session
from gmesh.mesh.limits import WAN, KeepaliveProfile
from gmesh.mesh.members import MemberDirectory
from gmesh.mesh.peer_identity import Peer, PeerVerifier
from gmesh.node.authority_relay import AuthorityRelay
from gmesh.node.composition import (
    SOFTWARE,
    Environment,
    NodeContext,
    make_control,
    make_ends,
    make_engine,
    make_links,
    make_neighbours,
    make_routes,
)
from gmesh.node.dial_policy import DialPolicy
from gmesh.node.heartbeat import Heartbeat
from gmesh.node.identity_store import Identity, NodeStore
from gmesh.node.join_relay import JoinRelay
from gmesh.node.limits import (
    ALARM_SPACING,
    MAX_ALARMED,
    MAX_FAULTS,
    MAX_LINKS_ANCHOR,
    MAX_LINKS_CLIENT,
    MAX_LINKS_RELAY,
    STOP_DEADLINE,
    STOP_POLL,
)
from gmesh.node.local_member import LocalMember
from gmesh.node.minimum_version import MinimumVersion
from gmesh.node.trust_changes import TrustChanges
from gmesh.routing.limits import MAX_SERVICE, MAX_SERVICES
from gmesh.routing.record import make_capabilities
from gmesh.streams.listeners import BENCH_SERVICE
from gmesh.trust.address_scope import Scope
from gmesh.wire.messages import BOOT_ID, CloseReason, Hello

__all__ = ["NodeRuntime"]

_MAX_LINKS = {"anchor": MAX_LINKS_ANCHOR, "relay": MAX_LINKS_RELAY, "client": MAX_LINKS_CLIENT}


class NodeRuntime:
    """
    One node: its links, its routes, its sealed messages.

    @param environment: the time, chance and connections it runs on.
    @param advertise: C{HOST:PORT} by which others reach this node.
    @param peers: targets to dial beside the anchors of the genesis.
    @param profile: how soon a silent neighbour is doubted and given up.
    @param session: makes hop sessions; tests record with it.
    @param stub: keep no table of the network, ask neighbours for each path; never relay.
    @ivar member: who this node is and what it believes.
    @ivar directory: the other members.
    @ivar engine: the routes.
    @ivar neighbours: the nodes it is linked with.
    @ivar budgets: what the control frames of each neighbour have cost.
    @ivar datagrams: what applications send and receive through.
    @ivar echo: ping and trace.
    @ivar streams: byte streams to and from services.
    @ivar control: operators' commands.
    @ivar parts: what else starts and stops with the node.
    @ivar renewals: links for renewals alone.
    @ivar joins: connections of hosts that join.
    @ivar refusals: peers that were refused, by cause.
    @ivar transits: paths of others that passed through here, with kind and size of the first frame.
    """

    _log = Logger()

    def __init__(
        self,
        identity: Identity,
        store: NodeStore,
        environment: Environment,
        *,
        advertise: Sequence[str] = (),
        peers: Sequence[str] = (),
        profile: KeepaliveProfile = WAN,
        session: SessionMaker = xx_session,
        stub: bool = False,
    ) -> None:
        clock, random, entropy = environment.clock, environment.random, environment.entropy
        self._clock = clock
        self._software = SOFTWARE
        self._boot_id = entropy(BOOT_ID)
        self._counters = Counters()
        self._alarmed: dict[tuple[str, bytes], float] = {}
        self.member = member = LocalMember(
            identity,
            store,
            clock,
            environment.wall,
            entropy,
            self.trust_changed,
            self.certificate_changed,
            environment.synchronised,
        )
        self.directory = directory = MemberDirectory(
            member.trust, member.wall, certified=self._certified, departed=member.state.departed
        )
        directory.remember(member.state.revoked)
        self.engine = make_engine(member, directory, clock, random, self._alarm, stub)
        self.budgets = ControlBudgets(clock, environment.cpu)
        context = NodeContext(
            member=member,
            directory=directory,
            engine=self.engine,
            clock=clock,
            random=random,
            entropy=entropy,
            counters=self._counters,
            budgets=self.budgets,
            aside=environment.aside,
            stub=stub,
            key_log=store.message_keys,
        )
        verifier = PeerVerifier(member.trust, lambda: member.certificate, member.wall)
        self.neighbours = make_neighbours(context, verifier, self._max_links)
        routes = make_routes(context, self.neighbours)
        links = make_links(
            context, verifier, self.neighbours, routes, self._hello, environment.connect, profile, session
        )
        ends = make_ends(context, routes, self.advertise, self._boot_id)
        self._stub = stub
        self.dialler = links.dialler
        self.refusals = links.refusals
        self.renewals = links.renewals
        self.joins = links.joins
        self._factory = links.factory
        self.forwarding = routes.forwarding
        self.transits = routes.forwarding.transits
        self._flooding = routes.flooding
        self._control = routes.control
        self._seeker = routes.seeker
        self._updates = routes.updates
        self._dial_policy = DialPolicy(
            member, self.engine, links.dialler, links.neighbours, self._counters, clock, peers
        )
        self._sessions = ends.sessions
        self.datagrams = ends.datagrams
        self.echo = ends.echo
        self.streams = ends.streams
        self.control = make_control(context, links, ends, self._dial_policy.tell, self._receipt_waits)
        self._versions = MinimumVersion(
            member.trust, links.neighbours, self._software, self._counters, self.now
        )
        self.neighbours.observe(  # a link comes up in this order, and goes down in the opposite one
            self._control,  # its certificate; the documents and records that it lacks
            self.forwarding,  # frames may leave by it
            self.control.flood,  # commands that came while we were apart
            self._versions,  # too old for the policy: it has heard which, and is closed
            self._updates,  # our record names it
            self.dialler,  # once it is gone, its target is due again
        )
        self.parts: list[AuthorityRelay | JoinRelay] = []
        self._changes = TrustChanges(
            context, links, routes, ends, self.control, self._versions, self._dial_policy
        )
        self._changes.keep_own_certificate()
        self._advertised = tuple(advertise)
        self.advertise()

    def attach(
        self,
        heartbeat: Heartbeat,
        shutdown: Callable[[], object],
        reload: Callable[[], Deferred[str]],
        set_log_level: Callable[[LogLevel], object] | None = None,
    ) -> None:
        """What the daemon makes with the node at hand, given before L{start}."""
        self._changes.heartbeat = heartbeat
        self.renewals.opened = heartbeat.soon
        self.control.node.attach(heartbeat.soon, shutdown, reload, set_log_level)

    # Life

    def start(self) -> None:
        """Begin to dial, to route and to answer."""
        self._updates.start()
        self.datagrams.start()
        self.echo.start()
        self.control.start()
        self._versions.trust_changed("policy")
        for part in self.parts:
            part.start()
        self._dial_policy.start()
        self.dialler.start()

    def stop(self) -> Deferred[None]:
        """Ask the neighbours to route around us, close every link with CLOSE(shutdown), stop every timer."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self.dialler.stop()
        self._dial_policy.stop()
        await self.control.stop()
        for part in self.parts:
            part.stop()
        self.echo.stop()
        self.streams.stop()
        self.datagrams.stop()
        if self._seeker is not None:
            self._seeker.stop()
        if self.neighbours.links:
            await self._updates.drain()
        self.renewals.close()
        self.joins.close()
        self.neighbours.close(CloseReason.SHUTDOWN)
        await self._all_closed()
        self._updates.stop()
        self.member.stop()

    async def _all_closed(self) -> None:
        """Closing links end within their own deadline; look until they have."""
        deadline = self.now() + STOP_DEADLINE
        while self.neighbours.sessions and self.now() < deadline:
            await deferLater(self._clock, STOP_POLL)

    def accepting(self) -> IProtocolFactory:
        """The factory to listen with, on any number of server endpoints."""
        return self._factory.accepting()

    # What happens when trust changes: gmesh.node.trust_changes

    def trust_changed(self, kind: str) -> None:
        """Another document is in force: L{TrustChanges.document_changed}."""
        self._changes.document_changed(kind)

    def certificate_changed(self, rekeyed: bool) -> None:
        """Our own certificate is a newer one: L{TrustChanges.certificate_changed}."""
        self._changes.certificate_changed(rekeyed)

    def _receipt_waits(self) -> None:
        if self._changes.heartbeat is not None:
            self._changes.heartbeat.receipts_wait()

    # Views

    def now(self) -> float:
        """The monotonic clock, as the engine gets it."""
        return self._clock.seconds()

    def links(self) -> list[ILink]:
        """One link for each neighbour."""
        return list(self.neighbours.links.values())

    def count(self, cause: str) -> None:
        """Something happened beside the layers."""
        self._counters.count(cause)

    def counters(self) -> dict[str, int]:
        """What was refused, dropped, delivered: numbers by cause."""
        counted = dict(self._counters)
        for source in (self._sessions.counters, self.datagrams.services.counters, self.streams.counters):
            for cause, number in source.items():
                counted[cause] = counted.get(cause, 0) + number
        return dict(sorted(counted.items()))

    def faults(self) -> list[str]:
        """
        What is wrong with the authority's documents, or with nodes: C{WORD} or C{WORD:NODE}.

        Alarms by their slugs, C{fell-back} while the authority answers less than it once signed, and
        C{twin} when another host has our keys, C{twin:NODE} when that is so of a neighbour.
        """
        heartbeat = self._changes.heartbeat
        found = sorted(self.member.alarms.kept)
        if heartbeat is not None and heartbeat.fell_back:
            found.append("fell-back")
        twins = self.neighbours.twins
        return [*found, *(["twin"] if twins.here else []), *(f"twin:{name}" for name in twins.names())]

    def report(self) -> dict[str, Any]:
        """What a heartbeat says of this run."""
        return {"boot_id": self._boot_id.hex(), "faults": self.faults()[:MAX_FAULTS]}

    def set_peers(self, peers: Sequence[str]) -> None:
        """Dial these beside the anchors from now on."""
        self._dial_policy.set_named(peers)

    def lead_to(self, bound: Scope) -> None:
        """Records and commands may lead to addresses as near as this: private ones, until it is called."""
        self._dial_policy.lead_to(bound)

    def set_advertised(self, addresses: Sequence[str]) -> None:
        """Advertise these addresses from now on."""
        self._advertised = tuple(addresses)
        self.advertise()

    def advertise(self) -> None:
        """Advertise addresses, services and version in the node record."""
        taken = {*self.datagrams.services.names, *self.streams.listeners.names}
        names = sorted(name for name in taken if not is_reserved(name) and name != BENCH_SERVICE)
        listed = [name for name in names if len(name) <= MAX_SERVICE][:MAX_SERVICES]
        self._updates.advertise(make_capabilities(self._advertised, listed, self._software))

    def is_anchor(self) -> bool:
        """Whether this node's certificate says so."""
        return "anchor" in self.member.roles

    def near_anchors(self) -> list[str]:
        """
        The names of the other anchors, nearest first: those that can be reached.

        A stub knows few paths: after those come its neighbours and the anchors that documents name.
        """
        now = self.now()
        names = {
            node.handle: node.member.name for node in self.engine.nodes(now) if "anchor" in node.member.roles
        }
        table = sorted(self.engine.table(now), key=lambda row: row[2])
        near = [names[handle] for handle, _, _ in table if handle in names]
        if self._stub:
            near += [link.peer.name for link in self.neighbours.links.values() if "anchor" in link.peer.roles]
            listed = (*self.member.anchors(), *self.member.anchors_behind())
            near += [anchor.name for anchor in listed if anchor.name != self.member.name]
        return list(dict.fromkeys(near))

    # What the layers ask

    def _max_links(self) -> int:
        return max(_MAX_LINKS.get(role, 0) for role in ("client", *self.member.peer.roles))

    def _hello(self, initiator: bool, observed: str) -> Hello:
        numbers = self.member.numbers()
        return Hello(
            boot_id=self._boot_id,
            initiator=initiator,
            wall_ms=int(self.member.wall() * 1000),
            serial=self.member.peer.serial,
            status=numbers["status"],
            crl=numbers["crl"],
            policy=numbers["policy"],
            genesis=numbers["genesis"],
            digest=self.engine.store.digest(),
            software=self._software,
            observed=observed,
        )

    def _alarm(self, slug: str, handle: bytes) -> None:
        self._counters.count(slug)
        if slug == "own-record":
            self.neighbours.twins.own_record()
        now = self.now()
        if now - self._alarmed.pop((slug, handle), float("-inf")) < ALARM_SPACING:
            self._alarmed[slug, handle] = now
            return
        self._alarmed[slug, handle] = now
        if len(self._alarmed) > MAX_ALARMED:
            del self._alarmed[next(iter(self._alarmed))]
        peer = self.directory.find_handle(handle)
        self._log.error("alarm {slug} about {name}", slug=slug, name=peer.name if peer else handle.hex())

    def _certified(self, peer: Peer) -> None:
        """A certificate is new here: records waited for it, and a neighbour that renewed keeps its link."""
        self._flooding.certified(peer)
        self.streams.certified(peer)
        link = self.neighbours.links.get(peer.handle)
        if link is None or self.neighbours.refresh(peer.certificate):
            return
        if peer.serial > link.peer.serial and peer.noise_key != link.peer.noise_key:
            self.dialler.redial(peer.handle)
