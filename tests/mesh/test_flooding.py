# SPDX-License-Identifier: MIT
"""Tests of L{gmesh.mesh.flooding}: how records spread, and what a neighbour's outbox holds."""

from __future__ import annotations

from itertools import pairwise

import networkx as nx
import pytest
from mesh.network_doubles import TestWorld, forge
from mesh.records import equal, kinds, records, sign

from gmesh.mesh.limits import EAGER_DEGREE, FLUSH_BACKLOG
from gmesh.mesh.neighbour import RecordOutbox
from gmesh.routing.record import decode_record
from gmesh.wire.frames import Kind
from gmesh.wire.messages import CloseReason, Lsa


@pytest.mark.parametrize(
    "graph",
    [nx.path_graph(5), nx.cycle_graph(5), nx.star_graph(5), nx.complete_graph(5)],
    ids=["line", "ring", "star", "complete"],
)
def test_everybody_learns_everything(world: TestWorld, graph: nx.Graph) -> None:
    """From nothing: equal databases, every name known everywhere, paths between all."""
    nodes = [world.add(f"n{number}") for number in graph]
    for one, other in graph.edges:
        world.connect(nodes[one], nodes[other])
    world.run(5)
    assert equal(world)
    for node in nodes:
        assert [peer.name for peer in node.directory.peers()] == [
            other.name for other in sorted(nodes, key=lambda other: other.handle)
        ]
        assert len(node.engine.table(world.clock.seconds())) == len(nodes) - 1
        assert node.sequences[-1] == node.engine.sequence


def test_each_record_is_verified_once(world: TestWorld) -> None:
    """Duplicates over other ways cost no signature check."""
    nodes = [world.add(f"n{number}") for number in range(5)]
    for one in nodes:
        for other in nodes:
            if one.name < other.name:
                world.connect(one, other)
    world.run(5)
    accepted = sum(node.counters["record-accepted"] for node in nodes)
    assert world.verified == accepted


def test_never_back_to_the_sender(world: TestWorld) -> None:
    """A record is not returned to whom it came from, nor sent to who has shown to hold it."""
    a, b, c = world.line("a", "b", "c")
    world.run(5)
    held = len(records(b.links["a"]))
    data = sign(a, a.engine.sequence + 1)
    b.links["a"].receive(Kind.LSA, b"\0\0\0" + Lsa((data,)).encode())
    world.run(1)
    assert data in records(b.links["c"])
    assert len(records(b.links["a"])) == held
    assert data not in records(c.links["b"])


def test_changes_are_joined(world: TestWorld) -> None:
    """The first leaves at once; those of the next 20 ms in one frame, of one key only the newest."""
    a, b, _c = world.line("a", "b", "c")
    world.run(5)
    before = kinds(b.links["c"]).count(Kind.LSA)
    sequence = a.engine.sequence
    for number in (1, 2, 3, 4):
        b.links["a"].receive(Kind.LSA, b"\0\0\0" + Lsa((sign(a, sequence + number),)).encode())
        world.run(0.001)
        assert kinds(b.links["c"]).count(Kind.LSA) == before + 1
    world.run(0.018)
    assert kinds(b.links["c"]).count(Kind.LSA) == before + 2
    assert decode_record(records(b.links["c"])[-1], b.engine.database.network_id).sequence == sequence + 4


def test_newer_record_answers_an_old_one(world: TestWorld) -> None:
    """Who sends an old record is sent the newer one."""
    _a, b, c = world.line("a", "b", "c")
    world.run(5)
    old = sign(c, 1)
    before = len(records(b.links["a"]))
    b.links["a"].receive(Kind.LSA, b"\0\0\0" + Lsa((old,)).encode())
    world.run(0.1)
    assert len(records(b.links["a"])) == before + 1


def test_many_neighbours_are_told_lazily(world: TestWorld) -> None:
    """Beyond eight neighbours the rest get IHAVE and pull what they lack; all end up equal."""
    hub = world.add("hub", "anchor")
    spokes = [world.add(f"s{number}") for number in range(12)]
    for spoke in spokes:
        world.connect(hub, spoke)
    for one, other in pairwise(spokes):
        world.connect(one, other)
    world.run(8)
    assert equal(world)
    for spoke in spokes:
        hub.links[spoke.name].sent.clear()
        spoke.withholds = lambda kind, frame: kind == Kind.LSA
    hub.updates.advertise(((9, b"news"),))
    world.run(2)
    assert equal(world)
    eager = [spoke for spoke in spokes if Kind.IHAVE not in kinds(hub.links[spoke.name])]
    assert len(eager) == EAGER_DEGREE
    assert all(Kind.LSA in kinds(hub.links[spoke.name]) for spoke in eager)


def test_leaves_are_not_told_lazily(world: TestWorld) -> None:
    """A neighbour whose only link is ours is always sent the record itself."""
    hub = world.add("hub", "anchor")
    clients = [world.add(f"c{number}", "client") for number in range(12)]
    for client in clients:
        world.connect(hub, client)
    world.run(8)
    for client in clients:
        hub.links[client.name].sent.clear()
    hub.updates.advertise(((9, b"news"),))
    world.run(2)
    assert equal(world)
    assert all(Kind.IHAVE not in kinds(hub.links[client.name]) for client in clients)


def test_forged_records_cost_the_link(world: TestWorld) -> None:
    """More than fifty records that do not verify within a minute end the link; none is passed on."""
    a, b, _c = world.line("a", "b", "c")
    world.run(5)
    forged = [forge(sign(a, a.engine.sequence + number)) for number in range(1, 53)]
    for data in forged:
        if b.links["a"].up:
            b.links["a"].receive(Kind.LSA, b"\0\0\0" + Lsa((data,)).encode())
    world.run(1)
    assert b.links["a"].closed == [CloseReason.PROTOCOL]
    assert b.counters["record-bad-signature"] == 51
    assert not set(forged) & set(records(b.links["c"]))


def test_malformed_record_costs_the_link(world: TestWorld) -> None:
    """What is no record at all ends the link at once."""
    _a, b = world.line("a", "b")
    b.links["a"].receive(Kind.LSA, b"\0\0\0" + Lsa((b"x" * 200,)).encode())
    assert b.refusals == ["bad-record-version"]


def test_fast_changes_are_deferred_not_lost(world: TestWorld) -> None:
    """Beyond the origin's rate the newest record waits and is taken when the rate allows it."""
    a, b, c = world.line("a", "b", "c")
    world.run(60)
    sequence = a.engine.sequence + 100
    for number in range(20):
        b.links["a"].receive(Kind.LSA, b"\0\0\0" + Lsa((sign(a, sequence + number),)).encode())
    a.updates.stop()
    world.run(0.2)
    held = c.engine.store.get((a.handle, 0))
    assert held is not None and held.record.sequence < sequence + 19
    world.run(3)
    held = c.engine.store.get((a.handle, 0))
    assert held is not None and held.record.sequence == sequence + 19


def test_own_record_of_an_earlier_life_is_outbid(world: TestWorld) -> None:
    """A node that restarts without its sequence hears its old record and goes above it."""
    a, _b, c = world.line("a", "b", "c")
    world.run(5)
    data = sign(a, a.engine.sequence + 2**30)
    a.links["b"].receive(Kind.LSA, b"\0\0\0" + Lsa((data,)).encode())
    world.run(2)
    held = c.engine.store.get((a.handle, 0))
    assert held is not None and held.record.sequence == a.engine.sequence > 2**30


def test_outbox_is_bounded_by_its_keys() -> None:
    """An outbox holds one record a key, sends the newest, forgets what the other end has."""
    outbox = RecordOutbox()
    for sequence in range(100):
        outbox.put((b"a" * 8, 0), sequence, b"%d" % sequence)
    assert outbox.take(10**6) == [(b"99",)]
    outbox.put((b"a" * 8, 0), 5, b"x")
    outbox.seen((b"a" * 8, 0), 4)
    outbox.put((b"b" * 8, 0), 5, b"y")
    outbox.seen((b"b" * 8, 0), 5)
    outbox.name((b"c" * 8, 0), 5)
    outbox.seen((b"c" * 8, 0), 6)
    outbox.put((b"e" * 8, 0), 5, b"w")
    outbox.name((b"e" * 8, 0), 6)
    assert outbox.lazy == {(b"e" * 8, 0): 6} and (b"e" * 8, 0) not in outbox.eager
    outbox.seen((b"e" * 8, 0), 6)
    outbox.put((b"d" * 8, 0), 1, b"z")
    outbox.drop(b"d" * 8)
    assert outbox.take(10**6) == [(b"x",)] and outbox.lazy == {}


def test_outbox_takes_in_pieces() -> None:
    """A large backlog leaves a bounded amount at a time, in frames of bounded size."""
    outbox = RecordOutbox()
    for number in range(300):
        outbox.put((number.to_bytes(8, "big"), 0), 1, bytes(1000))
    frames = outbox.take(64 * 1024)
    assert sum(map(len, frames)) == 66 and all(sum(map(len, frame)) <= 16 * 1024 for frame in frames)
    assert len(outbox.eager) == 234


def test_a_link_that_lags_gets_no_more_records_until_it_has_caught_up(world: TestWorld) -> None:
    """What waits in the outbox is replaced by newer records; what is queued on the link is not."""
    a, b = world.line("a", "b")
    world.run(3)
    link = a.links["b"]
    link.control_backlog = FLUSH_BACKLOG
    before = len(link.sent)
    c = world.add("c")
    world.connect(a, c)
    world.run(1)
    assert not [kind for kind, _ in link.sent[before:] if kind == Kind.LSA]
    assert b.engine.path(c.handle, world.clock.seconds()) is None
    link.control_backlog = 0
    world.run(1)
    assert b.engine.path(c.handle, world.clock.seconds()) is not None
