# SPDX-License-Identifier: MIT
"""
The layers of a node, each built from what it needs: routes, the links that they use, then sealed sessions.

Only L{gmesh.node.runtime} calls this; what the layers ask of the node comes in as callables.
Tests: C{tests/node/test_memory_mesh.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

import gmesh
from gmesh.endtoend.association import Associations
from gmesh.endtoend.authorization import Authorization
from gmesh.endtoend.datagrams import Datagrams
from gmesh.endtoend.echo import EchoService
from gmesh.endtoend.message_keys import KeyLog, MessageKeys
from gmesh.endtoend.path_selector import PathSelector
from gmesh.endtoend.sealing import Sealer
from gmesh.endtoend.services import Services
from gmesh.endtoend.session import Handshaker
from gmesh.endtoend.sessions import Sessions
from gmesh.mesh.control_budget import ControlBudgets
from gmesh.mesh.control_protocol import ControlFactory
from gmesh.mesh.counters import Counters, Refusals
from gmesh.mesh.data_protocol import DataFactory
from gmesh.mesh.dialler import Dialler
from gmesh.mesh.dispatcher import Dispatcher
from gmesh.mesh.document_reader import Aside, DocumentReader, at_once
from gmesh.mesh.egress_queue import DataRoom
from gmesh.mesh.fetcher import Asked
from gmesh.mesh.flooding import Flooding
from gmesh.mesh.forwarding import Forwarding
from gmesh.mesh.gossip import DocumentGossip
from gmesh.mesh.handshake_gate import HandshakeGate
from gmesh.mesh.hop_sessions import HopSessions, SessionMaker
from gmesh.mesh.join_links import Joins
from gmesh.mesh.limits import KeepaliveProfile
from gmesh.mesh.link import MeshContext, MeshFactory
from gmesh.mesh.members import MemberDirectory, member_of
from gmesh.mesh.neighbours import Neighbours
from gmesh.mesh.noise import NoiseContext
from gmesh.mesh.peer_identity import Peer, PeerVerifier
from gmesh.mesh.renewal_links import Renewals
from gmesh.mesh.route_updates import RouteUpdates
from gmesh.node.control import Control
from gmesh.node.control_actions import CommandActions
from gmesh.node.local_member import LocalMember
from gmesh.routing.engine import RouteEngine
from gmesh.routing.origin import Originator
from gmesh.routing.record import Capability, RecordFlag
from gmesh.streams.streams import Streams
from gmesh.trust.keys import verify
from gmesh.trust.state import Freshness
from gmesh.wire.messages import EndParameters, Feature, Hello

if TYPE_CHECKING:
    from gmesh.mesh.stub_node import PathSeeker

__all__ = [
    "SOFTWARE",
    "EndToEnd",
    "Environment",
    "Links",
    "NodeContext",
    "Routes",
    "make_control",
    "make_ends",
    "make_engine",
    "make_links",
    "make_neighbours",
    "make_routes",
]

SOFTWARE = f"gmesh/{gmesh.__version__}"


@dataclass(frozen=True, slots=True)
class Environment:
    """
    What a node runs on, given by the daemon or by a simulated world.

    @ivar clock: the reactor, which keeps monotonic time.
    @ivar wall: Unix seconds.
    @ivar entropy: so many bytes that nobody guesses.
    @ivar connect: the client endpoint for an address, without some addresses of its host.
    @ivar cpu: seconds of CPU time of the calling thread; where time is simulated, it stands still.
    @ivar aside: runs what takes long beside the reactor.
    @ivar synchronised: whether C{wall} is known to be right.
    """

    clock: IReactorTime
    wall: Callable[[], float]
    random: Random
    entropy: Callable[[int], bytes]
    connect: Callable[[str, Collection[str]], IStreamClientEndpoint]
    cpu: Callable[[], float] = lambda: 0.0
    aside: Aside = at_once
    synchronised: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class NodeContext:
    """
    What every layer is given: who this node is and what it knows, time, chance, counters.

    @ivar budgets: of CPU time, by neighbour.
    @ivar aside: runs what takes long beside the reactor.
    @ivar stub: keep no table of the network, ask for paths.
    @ivar key_log: what programs on this node acknowledged.
    """

    member: LocalMember
    directory: MemberDirectory
    engine: RouteEngine
    clock: IReactorTime
    random: Random
    entropy: Callable[[int], bytes]
    counters: Counters
    budgets: ControlBudgets
    aside: Aside
    stub: bool
    key_log: KeyLog


@dataclass(frozen=True, slots=True)
class Links:
    """Links to neighbours, and those that are for renewals or joins alone."""

    neighbours: Neighbours
    dispatcher: Dispatcher
    factory: MeshFactory
    dialler: Dialler
    refusals: Refusals
    renewals: Renewals
    joins: Joins


@dataclass(frozen=True, slots=True)
class Routes:
    """
    Paths, and what neighbours report to each other.

    @ivar seeker: asks for paths, in a node that keeps no table.
    """

    flooding: Flooding
    control: ControlFactory
    forwarding: Forwarding
    updates: RouteUpdates
    documents: DocumentGossip
    seeker: PathSeeker | None = None


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """Sealed sessions, and what stands on them."""

    sessions: Sessions
    datagrams: Datagrams
    echo: EchoService
    streams: Streams


def make_engine(
    member: LocalMember,
    directory: MemberDirectory,
    clock: IReactorTime,
    random: Random,
    alarm: Callable[[str, bytes], None],
    stub: bool,
) -> RouteEngine:
    """The link-state database and the paths in it."""
    trust, now = member.trust, clock.seconds()
    originator = Originator(
        bytes.fromhex(trust.network_id),
        member.node_key,
        lambda: member.peer.serial,
        random,
        RecordFlag.STUB if stub else _flags(member.peer),
        member.state.record_sequence,
        now,
    )
    return RouteEngine(
        originator,
        lambda: member_of(member.peer),
        directory.member,
        trust.revoked,
        verify,
        now=now,
        alarm=alarm,
        prompt=stub,
    )


def make_neighbours(context: NodeContext, verifier: PeerVerifier, max_links: Callable[[], int]) -> Neighbours:
    """The registry of neighbours, which routes and links share."""
    return Neighbours(
        context.member.node_key.public,
        verifier.judge,
        max_links,
        context.clock,
        context.counters,
        records=Asked(context.clock, context.engine.store.lacks),
        certificates=Asked(context.clock, context.directory.lacks),
    )


def make_links(
    context: NodeContext,
    verifier: PeerVerifier,
    neighbours: Neighbours,
    routes: Routes,
    hello: Callable[[bool, str], Hello],
    connect: Callable[[str, Collection[str]], IStreamClientEndpoint],
    profile: KeepaliveProfile,
    session: SessionMaker,
) -> Links:
    """Noise, who takes the frames of a link, and the dialler that keeps this node linked."""
    member, clock = context.member, context.clock
    refusals = Refusals(clock, context.counters)
    dispatcher = Dispatcher()
    dispatcher.register(routes.control)
    dispatcher.register(DataFactory(routes.forwarding))
    noise = NoiseContext(
        clock=clock,
        sessions=HopSessions(member.trust.network_id, lambda: member.noise_key.private, session),
        suites=verifier.suites,
        verifier=verifier,
        gate=HandshakeGate(clock),
        refusals=refusals,
    )
    renewals = Renewals(clock, verifier.judge_ended, context.counters)
    joins = Joins(clock, context.counters)
    mesh = MeshContext(
        clock=clock,
        wall=member.wall,
        random=context.random,
        neighbours=neighbours,
        dispatcher=dispatcher,
        hello=hello,
        refusals=refusals,
        budgets=context.budgets,
        renewals=renewals,
        joins=joins,
        counters=context.counters,
        profile=profile,
        room=DataRoom(dropped=routes.forwarding.dropped),
    )
    factory = MeshFactory(mesh, noise)
    dialler = Dialler(clock, context.random, neighbours, connect, factory.dialling)
    return Links(neighbours, dispatcher, factory, dialler, refusals, renewals, joins)


def make_routes(context: NodeContext, neighbours: Neighbours) -> Routes:
    """The flooding of node records, the gossip of documents, forwarding."""
    engine, directory = context.engine, context.directory
    member, clock, counters = context.member, context.clock, context.counters
    used, seeker = member.record_sequence_used, None
    if context.stub:
        from gmesh.mesh.stub_node import PathSeeker, StubFlooding  # whose memory others can spare

        seeker = PathSeeker(engine, neighbours, directory.find_name, clock, counters)
        flooding: Flooding = StubFlooding(engine, neighbours, clock, member.wall, counters, used, seeker)
    else:
        flooding = Flooding(engine, neighbours, clock, member.wall, counters, used)
    reader = DocumentReader(context.budgets, context.aside)
    documents = DocumentGossip(member.trust, neighbours, clock, member.wall, counters, reader, context.random)
    control = ControlFactory(engine, neighbours, flooding, documents, directory, clock, counters)
    forwarding = Forwarding(
        engine,
        neighbours,
        flooding,
        clock,
        counters,
        relays=lambda: member.peer.relay and not context.stub,
        revoked=directory.revoked,
    )
    updates = RouteUpdates(engine, neighbours, flooding, forwarding, documents, directory, clock, member.wall)
    return Routes(flooding, control, forwarding, updates, documents, seeker)


def make_ends(
    context: NodeContext, routes: Routes, advertise: Callable[[], None], boot_id: bytes
) -> EndToEnd:
    """
    Sealed sessions, datagrams and byte streams over them, ping and trace.

    @param advertise: publishes in our record which services there are.
    @param boot_id: tells this run of the node from others.
    """
    member, directory, clock, seeker = context.member, context.directory, context.clock, routes.seeker
    trust = member.trust
    handshaker = Handshaker(
        trust=trust,
        own_certificate=lambda: member.certificate,
        noise_keys=lambda: member.noise_keys,
        next_number=member.next_handshake_number,
        wall=member.wall,
        parameters=EndParameters(boot_id, Feature.STREAMS | Feature.OUTCOMES),
    )
    paths = PathSelector(
        routes=seeker or context.engine,
        engine=context.engine,
        forwarding=routes.forwarding,
        directory=directory,
        trust=trust,
    )
    authorization = Authorization(
        handshaker=handshaker,
        paths=paths,
        directory=directory,
        clock=clock,
        lapsed=lambda: trust.freshness(member.wall()) is Freshness.LAPSED,
        seeker=seeker,
    )
    keys = MessageKeys(member.wall, context.key_log, context.aside)
    services = Services(clock, keys, handshaker.own.node_id)
    sealer = Sealer(handshaker, paths, directory, clock, context.random, context.entropy)
    associations = Associations(sealer, services, authorization, directory, clock, context.entropy)
    sessions = Sessions(
        associations, sealer, directory, clock, lambda number: routes.documents.wanted("crl", number)
    )
    routes.forwarding.serve(sessions.frame_for_us, sessions.undeliverable, sessions.sent)
    if seeker is not None:
        seeker.serve(sessions.path_found)
    datagrams = Datagrams(
        sessions=sessions,
        services=services,
        authorization=authorization,
        clock=clock,
        advertise=advertise,
    )
    echo = EchoService(
        datagrams=datagrams, paths=paths, directory=directory, clock=clock, entropy=context.entropy
    )
    streams = Streams(
        associations,
        authorization,
        clock,
        context.random,
        lambda peer: _record(context.engine, peer),
        advertise,
    )
    return EndToEnd(sessions, datagrams, echo, streams)


def make_control(
    context: NodeContext,
    links: Links,
    ends: EndToEnd,
    bootstrap_changed: Callable[[], object],
    receipt_waits: Callable[[], object],
) -> Control:
    """Operators' commands, over the links and from the authority."""
    member, neighbours = context.member, links.neighbours
    actions = CommandActions(member, context.clock, neighbours, ends.echo, bootstrap_changed)
    control = Control(member, neighbours, actions, context.counters, receipt_waits)
    links.dispatcher.register(control.flood)
    return control


def _record(engine: RouteEngine, peer: Peer) -> tuple[str, int]:
    """What the record of a node says it runs, and its sequence number."""
    entry = engine.store.get((peer.handle, 0))
    if entry is None:
        return "another version", 0
    software = "".join(entry.record.values(Capability.SOFTWARE))
    return software or "another version", entry.record.sequence


def _flags(peer: Peer) -> RecordFlag:
    flags = RecordFlag(0)
    if peer.relay:
        flags |= RecordFlag.RELAY
    if "anchor" in peer.roles:
        flags |= RecordFlag.ANCHOR
    return flags
