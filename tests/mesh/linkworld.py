# SPDX-License-Identifier: MIT
"""A few nodes with real keys, documents and handshakes, joined by links in memory, on one clock."""

from __future__ import annotations

from random import Random

from twisted.internet.task import Clock

from gmesh.errors import GmeshError
from gmesh.mesh.control_budget import ControlBudgets
from gmesh.mesh.counters import Counters, Refusals
from gmesh.mesh.dialler import Dialler
from gmesh.mesh.dispatcher import Dispatcher
from gmesh.mesh.fetcher import Asked
from gmesh.mesh.handshake_gate import HandshakeGate
from gmesh.mesh.hop_sessions import HopSessions
from gmesh.mesh.join_links import Joins
from gmesh.mesh.limits import WAN
from gmesh.mesh.link import MeshContext, MeshFactory
from gmesh.mesh.neighbour import NeighbourObserver
from gmesh.mesh.neighbours import Neighbours
from gmesh.mesh.noise import NoiseContext
from gmesh.mesh.peer_identity import PeerVerifier
from gmesh.mesh.renewal_links import Renewals
from gmesh.testing.issuer import Issuer
from gmesh.testing.network import MemoryNetwork
from gmesh.trust.state import TrustState
from gmesh.wire.messages import DIGEST_SIZE, CloseReason, Hello

EPOCH = 1_750_000_000
PORT = 7443


class Recorder(NeighbourObserver):
    """A receiver factory and an observer of neighbours in one: keeps what it hears."""

    kinds = frozenset({16, 66})

    def __init__(self):
        self.events = []
        self.frames = []
        self.links = []

    def build_receiver(self, neighbour):
        return _Receiver(self, neighbour.link)

    def link_up(self, neighbour):
        self.events.append(("up", neighbour.peer.name))
        self.links.append(neighbour.link)

    def link_down(self, neighbour, reason):
        self.events.append(("down", neighbour.peer.name, reason))
        self.links.remove(neighbour.link)

    def link_changed(self, neighbour):
        self.events.append(("changed", neighbour.peer.name, neighbour.link.suspect))


class _Receiver:
    def __init__(self, recorder, link):
        self.recorder, self.link = recorder, link

    def frame_received(self, kind, record, start, end):
        assert self.recorder.links.count(self.link) == 1
        body = bytes(record[start + 3 : end])
        if body == b"explode":
            raise GmeshError("exploded", "a receiver refused a frame")
        self.recorder.frames.append((self.link.peer.name, kind, body))


class Node:
    """One node without routing: trust, peers, links, dialler."""

    def __init__(self, world, enrolled, trust=None, max_links=64, limits=None, profile=WAN):
        self.world, self.enrolled = world, enrolled
        self.name = enrolled.name
        clock, random = world.clock, world.random
        self.neighbours = None
        self.trust = trust or world.trust(self.trust_changed)
        self.certificate = enrolled.certificate
        self.verifier = PeerVerifier(self.trust, lambda: self.certificate, world.wall)
        self.counters = Counters()
        self.refusals = Refusals(clock, self.counters)
        self.neighbours = Neighbours(
            enrolled.node_key.public,
            self.verifier.judge,
            lambda: max_links,
            clock,
            self.counters,
            records=Asked(clock),
            certificates=Asked(clock),
        )
        self.dispatcher = Dispatcher()
        self.recorder = Recorder()
        self.dispatcher.register(self.recorder)
        self.gate = HandshakeGate(clock, limits)
        self.noise = NoiseContext(
            clock=clock,
            sessions=HopSessions(self.trust.network_id, lambda: self.enrolled.noise_key.private),
            suites=self.verifier.suites,
            verifier=self.verifier,
            gate=self.gate,
            refusals=self.refusals,
        )
        self.boot_id = random.randbytes(8)
        self.context = MeshContext(
            clock=clock,
            wall=world.wall,
            random=random,
            neighbours=self.neighbours,
            dispatcher=self.dispatcher,
            hello=self.hello,
            refusals=self.refusals,
            budgets=ControlBudgets(clock, world.cpu),
            renewals=Renewals(clock, self.verifier.judge_ended, self.counters),
            joins=Joins(clock, self.counters),
            counters=self.counters,
            profile=profile,
        )
        self.mesh = MeshFactory(self.context, self.noise)
        self.host = f"10.0.0.{len(world.nodes) + 1}"
        self.address = f"{self.host}:{PORT}"
        self.dialler = Dialler(
            clock,
            random,
            self.neighbours,
            lambda target, avoid: world.network.client(target, self.host),
            self.mesh.dialling,
        )
        self.neighbours.observe(self.recorder, self.dialler)
        self.port = None
        world.nodes.append(self)

    def trust_changed(self, kind):
        """Whoever is a member no longer is cut."""
        if self.neighbours is not None and kind in ("crl", "genesis"):
            self.neighbours.sweep()

    def hello(self, initiator, observed):
        return Hello(
            boot_id=self.boot_id,
            initiator=initiator,
            wall_ms=int(self.world.wall() * 1000),
            serial=self.certificate.body.serial,
            status=0,
            crl=0,
            policy=0,
            genesis=self.trust.genesis.body.version,
            digest=bytes(DIGEST_SIZE),
            software="gmesh-test",
            observed=observed,
        )

    def listen(self):
        self.world.network.server(self.address).listen(self.mesh.accepting()).addCallback(
            lambda port: setattr(self, "port", port)
        )
        return self

    def dial(self, other, attempt=None):
        """One dial without a dialler."""
        return self.world.network.client(other.address, self.host).connect(self.mesh.dialling(attempt))

    def link(self, other):
        return self.neighbours.links.get(other.enrolled.handle)

    def stop(self):
        self.dialler.stop()
        self.neighbours.close(CloseReason.SHUTDOWN)


class World:
    """Clock, network, authority, nodes."""

    def __init__(self, seed=1, wire=None, start=EPOCH):
        self.clock = Clock()
        self.start = start
        self.random = Random(seed)
        self.network = MemoryNetwork(self.clock, Random(seed), wire)
        self.issuer = Issuer(self.wall, Random(seed))
        self.nodes = []
        self.cpu = lambda: 0.0

    def wall(self):
        return self.start + self.clock.seconds()

    def trust(self, changed=lambda kind: None, issuer=None):
        issuer = issuer or self.issuer
        state = TrustState(issuer.network_id, issuer.genesis_chain, changed=changed)
        for document in issuer.documents:
            state.offer(document, self.wall())
        return state

    def node(self, name, *roles, **options):
        return Node(self, self.issuer.enrol(name, *(roles or ("relay",))), **options)

    def pair(self, **options):
        """Two nodes linked, the first dialled."""
        one, two = self.node("one", **options), self.node("two", **options)
        two.listen()
        one.dial(two)
        self.run(0.5)
        assert one.link(two) is not None and two.link(one) is not None
        return one, two

    def run(self, seconds):
        """Let time pass from event to event."""
        end = self.clock.seconds() + seconds
        while True:
            due = min((call.getTime() for call in self.clock.getDelayedCalls()), default=end)
            if due >= end:
                break
            self.clock.advance(max(0.0, due - self.clock.seconds()))
        self.clock.advance(end - self.clock.seconds())

    def finish(self):
        """Stop everything and show that nothing is left on the clock."""
        for node in self.nodes:
            node.stop()
        self.run(12)
        assert self.network.open_connections() == []
        assert [call for call in self.clock.getDelayedCalls() if call.active()] == []
        for node in self.nodes:
            assert node.neighbours.links == {} and node.neighbours.sessions == 0 and node.gate.half_open == 0
