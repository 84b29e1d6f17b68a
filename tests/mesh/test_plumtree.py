# SPDX-License-Identifier: MIT
"""Tests of L{gmesh.mesh.plumtree}: who sends a record to whom, and that none is lost by it."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import pytest
from mesh.network_doubles import TestNode, TestWorld
from mesh.records import equal, kinds, records, sign

from gmesh.mesh.limits import EAGER_DEGREE, FLUSH_RECORD, IHAVE_INTERVAL
from gmesh.mesh.plumtree import Elsewhere
from gmesh.routing.record import decode_record
from gmesh.wire.frames import Kind
from gmesh.wire.messages import Lsa, RecordKey, SyncWant

NEWS = ((9, b"news"),)


def ring(world: TestWorld, *names: str, role: str = "relay") -> list[TestNode]:
    """So many nodes in a circle that know each other, with nothing written down of how they came to."""
    nodes = [world.add(name, role) for name in names]
    for one, other in pairwise([*nodes, nodes[0]]):
        world.connect(one, other)
    settle(world)
    return nodes


def settle(world: TestWorld) -> None:
    """Quiet; then forget what was sent."""
    world.run(10)
    assert equal(world)
    for node in world.nodes.values():
        for link in node.links.values():
            link.sent.clear()


def copies(one: TestNode, other: TestNode) -> int:
    """How many records one node sent to another."""
    return len(records(one.links[other.name]))


def test_neighbours_of_the_sender_have_it_from_the_sender(world: TestWorld) -> None:
    """In a triangle the other two only tell each other of a record."""
    a, b, c = ring(world, "a", "b", "c")
    a.updates.advertise(NEWS)
    world.run(2)
    assert equal(world)
    assert [copies(a, b), copies(a, c), copies(b, c), copies(c, b)] == [1, 1, 0, 0]
    assert kinds(b.links["c"]) == [Kind.IHAVE]


@pytest.mark.parametrize(("role", "sent"), [("relay", 1), ("client", 2)])
def test_of_two_ways_the_cheaper_carries_it(world: TestWorld, role: str, sent: int) -> None:
    """Around a square one copy arrives at the far corner; nobody relies on those that do not relay."""
    a, b, c, d = ring(world, "a", "b", "c", "d", role=role)
    a.updates.advertise(NEWS)
    world.run(2)
    assert equal(world)
    assert copies(b, c) + copies(d, c) == sent


class Graph:
    """What L{Elsewhere} asks of an engine, as one of the nodes."""

    def __init__(self, own: str, costs: dict[str, int]) -> None:
        self.handle = own.encode()
        self.rows: dict[bytes, dict[bytes, int]] = {}
        for (one, other), cost in costs.items():
            self.rows.setdefault(one.encode(), {})[other.encode()] = cost
            self.rows.setdefault(other.encode(), {})[one.encode()] = cost

    def neighbours(self, handle: bytes) -> dict[bytes, int]:
        """Links and costs."""
        return self.rows.get(handle, {})

    def relays(self, handle: bytes) -> bool:
        """Everybody does."""
        return True


@pytest.mark.parametrize(
    ("dear", "sends"), [("ab", "d"), ("bc", "d"), ("ad", "b"), ("dc", "b"), ("", "b")], ids=str
)
def test_exactly_one_of_two_ways_is_taken(dear: str, sends: str) -> None:
    """From a around a square to c: the cheaper, of equal ones that of the smaller handle."""
    costs = {edge: 200 if edge == dear else 100 for edge in ("ab", "bc", "ad", "dc")}
    graphs: dict[str, Any] = {own: Graph(own, costs) for own in "bd"}
    found = {own: Elsewhere(graph).covered_by_others(b"a") for own, graph in graphs.items()}
    assert [own for own in "bd" if b"c" not in found[own]] == [sends]


def test_who_is_no_neighbour_as_the_records_say_counts_on_nobody() -> None:
    """A record from a node whose link to us is not told yet goes to all."""
    graph: Any = Graph("x", {"ab": 100, "bx": 100})
    assert Elsewhere(graph).covered_by_others(b"a") == set()


def test_who_is_relied_on_and_silent_costs_a_tenth_of_a_second(world: TestWorld) -> None:
    """The far corner of a square pulls from the other side what the first one keeps to itself."""
    a, b, c, d = ring(world, "a", "b", "c", "d")
    for liar in (b, d):
        liar.withholds = lambda kind, frame: kind in (Kind.LSA, Kind.IHAVE)
        a.updates.advertise(((9, liar.name.encode()),))
        world.run(IHAVE_INTERVAL + 0.1)
        assert c.engine.store.floor((a.handle, 0)) == a.engine.sequence
        liar.withholds = None
        settle(world)


def test_of_many_neighbours_only_those_are_counted_on_that_get_it_unasked(world: TestWorld) -> None:
    """In a full mesh of twelve a record goes to eight, and reaches everybody."""
    nodes = [world.add(f"n{number:02}") for number in range(12)]
    for one, other in combinations(nodes, 2):
        world.connect(one, other)
    settle(world)
    source = nodes[0]
    source.updates.advertise(NEWS)
    world.run(1)
    assert equal(world)
    sent = sum(copies(one, other) for one in nodes for other in nodes if other.name in one.links)
    assert EAGER_DEGREE <= sum(copies(source, other) for other in nodes[1:]) <= 11
    assert sent <= 3 * len(nodes)


def test_after_a_large_flush_more_is_waited_for(world: TestWorld) -> None:
    """What much is news of comes from several sides: the next flush is the later, the larger the last was."""
    line = world.line(*(f"n{number}" for number in range(10)))
    settle(world)
    first, here, source = line[:3]

    def news(*origins: TestNode, ahead: int) -> None:
        made = tuple(sign(each, each.engine.sequence + ahead) for each in origins)
        here.links[source.name].receive(Kind.LSA, b"\0\0\0" + Lsa(made).encode())

    news(*line[2:], ahead=1)
    world.run(0.001)
    assert copies(here, first) == 8
    news(line[9], ahead=2)
    world.run(8 * FLUSH_RECORD - 0.003)
    assert copies(here, first) == 8
    world.run(0.004)
    assert copies(here, first) == 9


def test_what_was_asked_for_is_sent_whatever_comes_between(world: TestWorld) -> None:
    """An answer that waits gives way to a newer record, not to the name of one."""
    hub = world.add("hub", "anchor")
    spokes = [world.add(f"s{number:02}") for number in range(12)]
    for spoke in spokes:
        world.connect(hub, spoke)
    for one, other in pairwise(spokes):
        world.connect(one, other)
    settle(world)
    source = spokes[0]
    for asker in spokes[2:]:
        sequence = source.engine.sequence + 1
        source.engine.originator.sequence = sequence
        want = SyncWant((RecordKey(source.handle, 0),)).encode()
        hub.links[asker.name].receive(Kind.SYNC_WANT, b"\0\0\0" + want)
        news = sign(source, sequence, links=((hub.handle, 96),))
        hub.links[source.name].receive(Kind.LSA, b"\0\0\0" + Lsa((news,)).encode())
        world.run(0.03)
        (answer,) = records(hub.links[asker.name])[-1:]
        assert decode_record(answer, hub.engine.database.network_id).sequence >= sequence
        world.run(8)
        for link in hub.links.values():
            link.sent.clear()
