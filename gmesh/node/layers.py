# SPDX-License-Identifier: MIT
"""
The layers of a node, each built from those below it: links, then routes, then sealed sessions.

Only L{gmesh.node.runtime} calls this; what the layers ask of the node comes in as callables.
Tests: C{tests/node/test_memory_mesh.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

import gmesh
from gmesh.endtoend.association import Associations
from gmesh.endtoend.authorization import Authorization
from gmesh.endtoend.datagrams import Datagrams
from gmesh.endtoend.echo import EchoService
from gmesh.endtoend.path_selector import PathSelector
from gmesh.endtoend.sealing import Sealer
from gmesh.endtoend.services import Services
from gmesh.endtoend.session import Handshaker
from gmesh.endtoend.sessions import Sessions
from gmesh.interfaces import INoiseSession
from gmesh.mesh.certificates import CertificateBook
from gmesh.mesh.control import ControlFactory
from gmesh.mesh.counters import Counters, Refusals
from gmesh.mesh.data import DataFactory
from gmesh.mesh.dialler import Dialler
from gmesh.mesh.dispatcher import Dispatcher
from gmesh.mesh.documents import DocumentGossip
from gmesh.mesh.flooding import Flooding
from gmesh.mesh.forwarding import Forwarding
from gmesh.mesh.gate import HandshakeGate
from gmesh.mesh.limits import Liveliness
from gmesh.mesh.link import MeshContext, MeshFactory
from gmesh.mesh.noise import NoiseContext
from gmesh.mesh.peer_identity import Peer, PeerVerifier
from gmesh.mesh.peers import Peers
from gmesh.mesh.route_keeper import RouteKeeper
from gmesh.mesh.stub import PathSeeker, StubFlooding
from gmesh.node.control import Control, NodeControl
from gmesh.node.membership import Membership
from gmesh.routing.engine import RouteEngine
from gmesh.routing.record import RecordFlag
from gmesh.routing.store import Member
from gmesh.trust.keys import verify
from gmesh.trust.state import Freshness
from gmesh.wire.messages import Hello
from gmesh.wire.noise import StaticKey
from gmesh.wire.suites import Suite

__all__ = [
    "SOFTWARE",
    "Ends",
    "Links",
    "Means",
    "Routes",
    "SessionMaker",
    "make_control",
    "make_ends",
    "make_links",
    "make_routes",
]

SOFTWARE = f"gmesh/{gmesh.__version__}"

SessionMaker = Callable[[Suite, bool, bytes | StaticKey, bytes], INoiseSession]


@dataclass(frozen=True, slots=True)
class Means:
    """What every layer is given: time, chance, counters, and who this node is."""

    member: Membership
    book: CertificateBook
    clock: IReactorTime
    random: Random
    entropy: Callable[[int], bytes]
    counters: Counters


@dataclass(frozen=True, slots=True)
class Links:
    """Who is connected."""

    peers: Peers
    dispatcher: Dispatcher
    factory: MeshFactory
    dialler: Dialler
    refusals: Refusals


@dataclass(frozen=True, slots=True)
class Routes:
    """
    Which way, and what neighbours tell each other.

    @ivar seeker: asks for paths, in a node that keeps no table.
    """

    engine: RouteEngine
    flooding: Flooding
    control: ControlFactory
    forwarding: Forwarding
    keeper: RouteKeeper
    documents: DocumentGossip
    seeker: PathSeeker | None = None


@dataclass(frozen=True, slots=True)
class Ends:
    """Who is talking."""

    sessions: Sessions
    datagrams: Datagrams
    echo: EchoService


def make_links(
    means: Means,
    hello: Callable[[bool, str], Hello],
    max_links: Callable[[], int],
    connect: Callable[[str], IStreamClientEndpoint],
    profile: Liveliness,
    session: SessionMaker | None,
) -> Links:
    """Noise, links, one of them for each neighbour, and the dialler that keeps them."""
    member, clock = means.member, means.clock
    verifier = PeerVerifier(member.trust, lambda: member.certificate, member.wall)
    refusals = Refusals(clock, means.counters)
    peers = Peers(member.node_key.public, verifier.judge, max_links)
    dispatcher = Dispatcher()
    noise = NoiseContext(
        clock=clock,
        network_id=member.trust.network_id,
        static_private=lambda: member.noise_key.private,
        suites=verifier.suites,
        verifier=verifier,
        gate=HandshakeGate(clock),
        refusals=refusals,
    )
    if session is not None:
        noise.session = session
    mesh = MeshContext(
        clock=clock,
        wall=member.wall,
        random=means.random,
        peers=peers,
        dispatcher=dispatcher,
        hello=hello,
        refusals=refusals,
        counters=means.counters,
        profile=profile,
    )
    factory = MeshFactory(mesh, noise)
    dialler = Dialler(clock, means.random, peers, connect, factory.dialling)
    peers.add_listener(dialler)
    return Links(peers, dispatcher, factory, dialler, refusals)


def make_routes(
    means: Means,
    links: Links,
    alarm: Callable[[str, bytes], None],
    each_tick: Callable[[], object],
    path_found: Callable[[bytes], object],
    stub: bool = False,
) -> Routes:
    """
    The link-state database, its flooding, the gossip of documents, forwarding.

    @param each_tick: as L{RouteKeeper} takes it.
    @param path_found: as L{PathSeeker} takes it.
    @param stub: keep no table, ask for paths.
    """
    member, book, clock, counters = means.member, means.book, means.clock, means.counters
    trust = member.trust
    engine = RouteEngine(
        bytes.fromhex(trust.network_id),
        member.node_key,
        lambda: _routing_member(member.peer),
        book.member,
        trust.revoked,
        verify,
        means.random,
        flags=RecordFlag.STUB if stub else _flags(member.peer),
        sequence=member.state.record_sequence,
        now=clock.seconds(),
        alarm=alarm,
        prompt=stub,
    )
    keeper: RouteKeeper
    seeker: PathSeeker | None = None
    flooding = (StubFlooding if stub else Flooding)(
        engine,
        book,
        clock,
        member.wall,
        counters,
        own_due=lambda: keeper.schedule(),
        learned=lambda: seeker.look() if seeker is not None else None,
    )
    documents = DocumentGossip(trust, clock, member.wall, counters)
    answered = None
    if isinstance(flooding, StubFlooding):
        seeker = PathSeeker(engine, flooding, book.find_name, clock, counters, path_found)
        answered = seeker.answered
    control = ControlFactory(engine, flooding, documents, book, clock, counters, answered)
    forwarding = Forwarding(
        engine,
        flooding,
        clock,
        counters,
        relays=lambda: member.peer.relay and not stub,
        revoked=book.revoked,
    )
    links.dispatcher.register(control)
    links.dispatcher.register(DataFactory(forwarding))
    keeper = RouteKeeper(
        engine,
        flooding,
        forwarding,
        documents,
        book,
        trust,
        clock,
        member.wall,
        sequence_used=member.record_sequence_used,
        each_tick=each_tick,
    )
    links.peers.add_listener(keeper)
    return Routes(engine, flooding, control, forwarding, keeper, documents, seeker)


def make_ends(means: Means, routes: Routes, advertise: Callable[[], None]) -> Ends:
    """
    Sealed sessions, datagrams over them, ping and trace over those.

    @param advertise: called when this node has other services than before.
    """
    member, book, clock, seeker = means.member, means.book, means.clock, routes.seeker
    trust = member.trust
    handshaker = Handshaker(
        trust=trust,
        own_certificate=lambda: member.certificate,
        noise_keys=lambda: member.noise_keys,
        next_number=member.next_handshake_number,
        wall=member.wall,
    )
    paths = PathSelector(
        routes=seeker or routes.engine,
        engine=routes.engine,
        forwarding=routes.forwarding,
        book=book,
        trust=trust,
    )
    authorization = Authorization(
        handshaker=handshaker,
        paths=paths,
        book=book,
        clock=clock,
        lapsed=lambda: trust.freshness(member.wall()) is Freshness.LAPSED,
        seeker=seeker,
    )
    services = Services()
    sealer = Sealer(handshaker, paths, book, clock, means.random, means.entropy)
    associations = Associations(sealer, services, authorization, book, clock, means.entropy)
    sessions = Sessions(
        associations, sealer, book, clock, lambda number: routes.documents.wanted("crl", number)
    )
    routes.forwarding.serve(sessions.frame_for_us, sessions.undeliverable)
    datagrams = Datagrams(
        sessions=sessions,
        services=services,
        authorization=authorization,
        clock=clock,
        advertise=advertise,
    )
    echo = EchoService(datagrams=datagrams, paths=paths, book=book, clock=clock, entropy=means.entropy)
    return Ends(sessions, datagrams, echo)


def make_control(
    means: Means,
    links: Links,
    ends: Ends,
    bootstrap_changed: Callable[[], object],
    receipt_waits: Callable[[], object],
) -> Control:
    """Operators' commands, over the links and from the authority."""
    node = NodeControl(means.member, means.clock, links.peers, ends.echo, bootstrap_changed)
    control = Control(means.member, node, means.clock, means.counters, receipt_waits)
    links.dispatcher.register(control.flood)
    return control


def _routing_member(peer: Peer) -> Member:
    return Member(
        node_id=peer.node_id,
        name=peer.name,
        node_key=peer.node_key,
        roles=frozenset(peer.roles),
        serial=peer.serial,
        not_after=peer.not_after,
    )


def _flags(peer: Peer) -> RecordFlag:
    flags = RecordFlag(0)
    if peer.relay:
        flags |= RecordFlag.RELAY
    if "anchor" in peer.roles:
        flags |= RecordFlag.ANCHOR
    return flags
