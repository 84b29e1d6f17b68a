# SPDX-License-Identifier: MIT
"""
Engines without a mesh: nodes that flood over delayed links on one virtual clock, signatures stubbed.

Shared by the tests of routing; every random choice comes from the seed.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Callable, Iterable
from random import Random

import networkx as nx

from gmesh.routing.database import OfferOutcome
from gmesh.routing.engine import RouteEngine
from gmesh.routing.record import NodeRecord, RecordFlag, handle_of, node_id_of, signing_input
from gmesh.routing.store import Member
from gmesh.routing.sync import buckets_that_differ, missing, summaries
from gmesh.routing.waiting import WaitingRecords

NETWORK = bytes(range(16))
WALL = 1_760_000_000.0


class StubSigner:
    """Signs with a hash: as unforgeable as the tests need, a thousand times cheaper."""

    def __init__(self, public: bytes) -> None:
        self.public = public
        self.key_id = node_id_of(public)

    def sign(self, data: bytes) -> bytes:
        """The stub signature."""
        return hashlib.sha512(b"stub" + self.public + data).digest()


def stub_verify(public: bytes, signature: bytes, data: bytes) -> bool:
    """Whether L{StubSigner} made it."""
    return signature == StubSigner(public).sign(data)


def make_key(name: object) -> bytes:
    """A public key of sorts."""
    return hashlib.sha256(f"key {name}".encode()).digest()


def make_member(name: object, roles: Iterable[str] = ("relay",), serial: int = 1) -> Member:
    """A certificate's content."""
    key = make_key(name)
    return Member(node_id_of(key), str(name), key, frozenset(roles), serial, int(WALL) + 10**7)


def make_record(
    name: object,
    links: dict[object, int] | None = None,
    *,
    sequence: int = 1,
    fragment: int = 0,
    flags: RecordFlag = RecordFlag.RELAY,
    issued_at: float = WALL,
    **others: object,
) -> bytes:
    """A signed record of C{name}, whose links are given by name."""
    key = make_key(name)
    fields = {
        "network_id": NETWORK,
        "node_key": key,
        "serial": 1,
        "fragment": fragment,
        "sequence": sequence,
        "issued_at": int(issued_at),
        "lifetime": 3600,
        "flags": flags,
        "links": tuple(sorted((handle_of(make_key(peer)), cost) for peer, cost in (links or {}).items())),
        **others,
    }
    unsigned = NodeRecord(**fields)  # type: ignore[arg-type]  # keyword fields by name
    return unsigned.encode_unsigned() + StubSigner(key).sign(signing_input(unsigned.encode_unsigned()))


class SimulatedNode:
    """One engine with naive flooding around it."""

    def __init__(self, world: World, name: object, roles: Iterable[str]) -> None:
        self.world = world
        self.name = name
        self.member = make_member(name, roles)
        self.handle = handle_of(self.member.node_key)
        self.links: dict[bytes, float] = {}
        self.waiting = WaitingRecords()
        self.sequence = 0
        self.revoked: set[str] = set()
        self.engine = self.start()

    def start(self, sequence: int = 0) -> RouteEngine:
        """A fresh engine, as after a restart."""
        world = self.world
        flags = RecordFlag.RELAY if self.member.relays else RecordFlag(0)
        if "anchor" in self.member.roles:
            flags |= RecordFlag.ANCHOR
        self.engine = RouteEngine(
            NETWORK,
            StubSigner(self.member.node_key),
            lambda: self.member,
            lambda handle, serial: world.members.get((handle, serial)),
            lambda serial, node_id: node_id in self.revoked,
            stub_verify,
            world.random,
            flags=flags,
            sequence=sequence,
            now=world.now,
        )
        self.engine.originator.next_due()
        world.wake(self)
        return self.engine

    def receive(self, data: bytes, source: bytes) -> None:
        """One record from a neighbour."""
        if source not in self.links:
            return
        offer = self.engine.offer(data, self.world.now, self.world.wall)
        self.world.offers += 1
        if offer.outcome is OfferOutcome.ACCEPTED:
            self.flood(data, source)
        elif offer.outcome in (OfferOutcome.OLD, OfferOutcome.EQUIVOCATION):
            entry = self.engine.store.get(offer.key)
            if entry is not None:
                self.send(source, entry.data)
        elif offer.outcome is OfferOutcome.RATE_LIMITED and offer.record is not None:
            until = self.engine.database.ready_at(offer.key, self.world.now)
            self.waiting.defer(source, offer.key, offer.record.sequence, data, until)
            self.world.at(until, self.retry)
        elif offer.outcome is OfferOutcome.OWN_NEWER:
            self.world.wake(self)

    def retry(self) -> None:
        """Offer again what came too fast."""
        for source, data in self.waiting.due(self.world.now):
            assert isinstance(source, bytes)
            self.receive(data, source)
        due = self.waiting.next_due()
        if due is not None:
            self.world.at(due, self.retry)

    def flood(self, data: bytes, but: bytes | None = None) -> None:
        """To every neighbour but one."""
        for neighbour in sorted(self.links):
            if neighbour != but:
                self.send(neighbour, data)

    def send(self, neighbour: bytes, data: bytes) -> None:
        """Over a link, if it lives until the far end."""
        target = self.world.nodes[neighbour]
        self.world.records += 1
        self.world.at(self.world.now + self.links[neighbour], lambda: target.receive(data, self.handle))

    def originate(self) -> None:
        """Sign what is due."""
        for _, data in self.engine.originate(self.world.now, self.world.wall):
            self.flood(data)
        self.sequence = self.engine.sequence
        self.world.wake(self)

    def sync(self, neighbour: SimulatedNode) -> None:
        """Ask a new neighbour for what differs."""
        ours, theirs = self.engine.store, neighbour.engine.store
        lines = summaries(theirs, buckets_that_differ(ours.digest(), theirs.digest()))
        for key in missing(ours, lines):
            entry = theirs.get(key)
            assert entry is not None
            neighbour.send(self.handle, entry.data)


class World:
    """All nodes, the true links between them, one clock."""

    def __init__(self, seed: int = 0) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.nodes: dict[bytes, SimulatedNode] = {}
        self.members: dict[tuple[bytes, int], Member] = {}
        self.true = nx.Graph()
        self.records = 0
        self.offers = 0
        self.trace = hashlib.sha256()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    @property
    def wall(self) -> float:
        """Unix seconds."""
        return WALL + self.now

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do something later."""
        heapq.heappush(self._events, (max(when, self.now), next(self._count), action))

    def wake(self, node: SimulatedNode) -> None:
        """Let a node originate when it is due."""
        engine = node.engine
        due = engine.next_due()
        if due is not None and due < self.now + 60:
            self.at(due, lambda: node.originate() if node.engine is engine and self._due(node) else None)

    def _due(self, node: SimulatedNode) -> bool:
        due = node.engine.next_due()
        return due is not None and due <= self.now

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, action = heapq.heappop(self._events)
            action()
            self.trace.update(f"{self.now:.6f} {self.records}".encode())
        self.now = end

    def add(self, name: object, roles: Iterable[str] = ("relay",)) -> SimulatedNode:
        """A new node."""
        node = SimulatedNode(self, name, roles)
        self.nodes[node.handle] = node
        self.members[node.handle, node.member.serial] = node.member
        self.true.add_node(node.handle)
        return node

    def connect(self, one: SimulatedNode, other: SimulatedNode, cost: int = 96, delay: float = 0.01) -> None:
        """A link comes up at both ends."""
        self.true.add_edge(one.handle, other.handle, weight=cost)
        for here, there in ((one, other), (other, one)):
            here.links[there.handle] = delay
            here.engine.link_up(there.handle, cost, self.now)
            self.wake(here)
        one.sync(other)
        other.sync(one)

    def cut(self, one: SimulatedNode, other: SimulatedNode) -> None:
        """A link falls, seen by both ends."""
        self.true.remove_edge(one.handle, other.handle)
        for here, there in ((one, other), (other, one)):
            del here.links[there.handle]
            here.waiting.drop_source(there.handle)
            here.engine.link_down(there.handle, self.now)
            self.wake(here)

    def oracle(self, source: SimulatedNode) -> dict[bytes, int]:
        """Cheapest costs on the true graph with relays only inside, by networkx."""
        graph = nx.DiGraph()
        graph.add_nodes_from(self.true)
        for one, other, data in self.true.edges(data=True):
            for here, there in ((one, other), (other, one)):
                if here == source.handle or self.nodes[here].member.relays:
                    graph.add_edge(here, there, weight=data["weight"])
        costs: dict[bytes, int] = nx.single_source_dijkstra_path_length(graph, source.handle)
        return costs

    def check_paths(self) -> None:
        """Invariants 2 and 3: every path is as cheap as the oracle's, databases in a component are equal."""
        for node in self.nodes.values():
            costs = self.oracle(node)
            for target in self.nodes:
                path = node.engine.path(target, self.now)
                assert (path is None) == (target not in costs), (node.name, self.nodes[target].name)
                if path is not None:
                    assert path[0] == node.handle and path[-1] == target and len(set(path)) == len(path)
                    edges = itertools.pairwise(path)
                    assert sum(self.true[one][two]["weight"] for one, two in edges) == costs[target]
                else:
                    assert node.engine.explain(target, self.now)[0] in ("unreachable", "unknown-node")
        for component in nx.connected_components(self.true):
            digests = {self.nodes[handle].engine.store.digest() for handle in component}
            assert len(digests) == 1


def build(
    graph: nx.Graph, seed: int = 0, roles: Callable[[object], Iterable[str]] = lambda name: ("relay",)
) -> World:
    """A world with the shape of a networkx graph; link costs and delays drawn from the seed."""
    world = World(seed)
    made = {name: world.add(name, roles(name)) for name in sorted(graph)}
    for one, other in sorted(graph.edges):
        cost, delay = world.random.randint(96, 246), world.random.uniform(0.002, 0.04)
        begin = world.random.uniform(0, 1)
        world.at(begin, lambda a=made[one], b=made[other], c=cost, d=delay: world.connect(a, b, c, d))
    return world
