# SPDX-License-Identifier: MIT
"""Tests of C{routing.engine}, alone and many together: the invariants on paths and databases."""

from __future__ import annotations

from random import Random

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing.simulation import World, build, make_key, make_record
from zope.interface.verify import verifyObject

from gmesh.interfaces import IRouteEngine
from gmesh.routing.database import OfferOutcome
from gmesh.routing.record import RecordFlag, handle_of

QUIET = 12.0
"""Seconds after which all is settled in these tests: links appear during the first, spacing is far below."""


def test_seam() -> None:
    """The engine provides what forwarding and sessions ask for."""
    assert verifyObject(IRouteEngine, World().add("a").engine)


@pytest.mark.parametrize(
    "graph",
    [
        nx.path_graph(8),
        nx.cycle_graph(9),
        nx.convert_node_labels_to_integers(nx.grid_2d_graph(4, 4), ordering="sorted"),
        nx.star_graph(12),
        nx.complete_graph(8),
        nx.barabasi_albert_graph(30, 3, seed=1),
        nx.barbell_graph(5, 2),
    ],
    ids=["line", "ring", "grid", "star", "complete", "ba", "cliques"],
)
def test_cold_start(graph: nx.Graph) -> None:
    """From nothing, every topology comes to equal databases and the oracle's paths."""
    world = build(graph, seed=7)
    world.run(QUIET)
    world.check_paths()


@settings(max_examples=40)
@given(st.integers(0, 2**16), st.integers(4, 14), st.floats(0.15, 0.6))
def test_random_graphs_with_churn(seed: int, count: int, density: float) -> None:
    """After links came, fell and returned and all is quiet, the invariants hold; a third are not relays."""
    random = Random(seed)
    graph = nx.gnp_random_graph(count, density, seed=seed)
    world = build(graph, seed, lambda name: ("client",) if random.random() < 0.33 else ("relay",))
    world.run(3.0)
    for _ in range(6):
        edges = sorted(world.true.edges)
        pairs = [pair for pair in nx.non_edges(world.true)] or edges
        if edges and random.random() < 0.5:
            one, other = random.choice(edges)
            world.cut(world.nodes[one], world.nodes[other])
        elif not world.true.has_edge(*(pair := random.choice(sorted(map(sorted, pairs))))):
            world.connect(world.nodes[pair[0]], world.nodes[pair[1]], random.randint(96, 246))
        world.run(random.uniform(0, 2))
    world.run(60)
    world.check_paths()


def test_trace_repeats() -> None:
    """A seed gives the same run to the last record."""
    runs = []
    for _ in range(2):
        world = build(nx.barabasi_albert_graph(15, 2, seed=3), seed=3)
        world.run(QUIET)
        runs.append((world.trace.hexdigest(), world.records))
    assert runs[0] == runs[1]


def test_failure_is_repaired_quickly() -> None:
    """A detected link failure on a ring of 20 is out of every path within half a second."""
    world = build(nx.cycle_graph(20), seed=2)
    world.run(QUIET)
    nodes = list(world.nodes.values())
    world.cut(nodes[4], nodes[5])
    world.run(0.5)
    world.check_paths()


def test_partition_and_heal() -> None:
    """Each side prunes the other; on healing only what differs moves, and all is as before."""
    world = build(nx.barbell_graph(6, 0), seed=4)
    world.run(QUIET)
    nodes = list(world.nodes.values())
    world.cut(nodes[5], nodes[6])
    world.run(QUIET)
    world.check_paths()
    before = world.records
    world.connect(nodes[5], nodes[6])
    world.run(QUIET)
    world.check_paths()
    assert world.records - before < 200


def test_restart_without_state() -> None:
    """A node that lost its sequence and whose clock went back is heard again within seconds."""
    world = build(nx.cycle_graph(6), seed=5)
    world.run(QUIET)
    nodes = list(world.nodes.values())
    lost, peers = nodes[2], (nodes[1], nodes[3])
    for peer in peers:
        world.cut(lost, peer)
    world.run(1)
    high = lost.engine.sequence + (10**6 << 20)
    lost.start(high)
    world.connect(lost, peers[0])
    world.run(QUIET)
    world.cut(lost, peers[0])
    lost.start(0)
    for peer in peers:
        world.connect(lost, peer)
    world.run(QUIET)
    world.check_paths()
    assert lost.engine.sequence > high


def test_overload_drains() -> None:
    """After OVERLOAD nobody's path has the node inside, it is still reached itself, and sends."""
    world = build(nx.convert_node_labels_to_integers(nx.grid_2d_graph(3, 3), ordering="sorted"), seed=6)
    world.run(QUIET)
    centre = list(world.nodes.values())[4]
    centre.engine.overload(world.now)
    world.wake(centre)
    world.run(1)
    for node in world.nodes.values():
        for target in world.nodes:
            path = node.engine.path(target, world.now)
            assert path is not None and centre.handle not in path[1:-1]


def test_revocation_cuts_at_once() -> None:
    """In the same call no path starts at, ends at or crosses the revoked node, and its record is gone."""
    world = build(nx.cycle_graph(5), seed=8)
    world.run(QUIET)
    nodes = list(world.nodes.values())
    nodes[0].revoked.add(nodes[1].member.node_id)
    assert nodes[0].engine.revocations_changed(world.now) == [nodes[1].handle]
    for target in world.nodes:
        path = nodes[0].engine.path(target, world.now)
        assert path is None or nodes[1].handle not in path
    assert nodes[0].engine.path(nodes[2].handle, world.now) is not None
    assert nodes[0].engine.store.get((nodes[1].handle, 0)) is None


def test_one_sided_claims_make_no_edge() -> None:
    """A record that lists us without our link, or us alone, opens no path."""
    world = World()
    one, liar = world.add("one"), world.add("liar")
    outcome = one.engine.offer(make_record("liar", {"one": 1}), 0.0, world.wall).outcome
    assert outcome is OfferOutcome.ACCEPTED
    assert one.engine.path(liar.handle, 1.0) is None
    one.engine.link_up(liar.handle, 96, 1.0)
    assert one.engine.path(liar.handle, 2.0) == (one.handle, liar.handle)


def test_relay_flag_needs_the_certificate() -> None:
    """A client that flags itself RELAY is no interior hop; neither is a relay without the flag."""
    for roles, flags in ((("client",), RecordFlag.RELAY), (("relay",), RecordFlag(0))):
        world = World()
        one, _, far = world.add("one"), world.add("middle", roles), world.add("far")
        one.engine.link_up(handle_of(make_key("middle")), 96, 0.0)
        one.engine.offer(make_record("middle", {"one": 96, "far": 96}, flags=flags), 0.0, world.wall)
        one.engine.offer(make_record("far", {"middle": 96}), 0.0, world.wall)
        assert one.engine.path(far.handle, 1.0) is None
        assert one.engine.explain(far.handle, 1.0)[0] == "unreachable"


def test_explanations() -> None:
    """No path has a reason: unknown, unreachable, or too far with both numbers."""
    world = build(nx.path_graph(5), seed=1)
    world.run(QUIET)
    first, last = next(iter(world.nodes.values())), list(world.nodes.values())[-1]
    first.engine.set_bounds(3, 100, world.now)
    assert first.engine.path(last.handle, world.now) is None
    assert first.engine.explain(last.handle, world.now) == ("too-far", "too far: 4 hops, limit 3")
    assert first.engine.explain(b"?" * 8, world.now)[0] == "unknown-node"


def test_table_and_nodes() -> None:
    """The table lists path and cost of everybody in reach; nodes lists everybody known."""
    world = build(nx.path_graph(4), seed=1)
    world.run(QUIET)
    first = next(iter(world.nodes.values()))
    costs = world.oracle(first)
    table = first.engine.table(world.now)
    assert {handle: cost for handle, _, cost in table} == {
        h: c for h, c in costs.items() if h != first.handle
    }
    assert all(path[0] == first.handle and path[-1] == handle for handle, path, _ in table)
    known = first.engine.nodes(world.now)
    assert [node.handle for node in known] == sorted(world.nodes)
    assert all(node.reachable for node in known)


def test_unreachable_is_forgotten_after_an_hour() -> None:
    """A node out of reach keeps its record for an hour, whatever else changes, then it is dropped."""
    world = build(nx.path_graph(2), seed=1)
    world.run(QUIET)
    one, other = world.nodes.values()
    world.cut(one, other)
    now = world.now
    one.engine.expire(now + 1, world.wall)
    one.engine.overload(now + 1800)
    assert one.engine.originate(now + 1800, world.wall)
    one.engine.expire(now + 1800, world.wall)
    one.engine.expire(now + 3500, world.wall)
    assert one.engine.store.origins == 2
    one.engine.expire(now + 3601, world.wall)
    assert one.engine.store.origins == 1


def test_evidence() -> None:
    """The record shown in UNREACH is our own and does not list the failed link; none before it is signed."""
    world = build(nx.path_graph(2), seed=1)
    world.run(QUIET)
    one, other = world.nodes.values()
    assert one.engine.evidence(other.handle) is None
    one.engine.link_down(other.handle, world.now)
    assert one.engine.evidence(other.handle) is None
    ((_, data),) = one.engine.originate(world.now, world.wall)
    assert one.engine.evidence(other.handle) == data


def test_avoid_and_limit() -> None:
    """A detour avoids what it is told to and fits into the hops left."""
    world = build(nx.cycle_graph(6), seed=1)
    world.run(QUIET)
    nodes = list(world.nodes.values())
    engine = nodes[0].engine
    path = engine.path(nodes[3].handle, world.now, frozenset([nodes[1].handle]))
    assert path == tuple(nodes[n].handle for n in (0, 5, 4, 3))
    assert engine.path(nodes[3].handle, world.now, frozenset([nodes[1].handle]), 2) is None
    assert engine.path(nodes[3].handle, world.now, frozenset([nodes[1].handle, nodes[5].handle])) is None


def test_anchor_star_flap_touches_two_records() -> None:
    """One client's flap in a star of 150 re-signs one fragment of the anchor and the client's record."""
    world = World(9)
    anchor = world.add("anchor", ["anchor"])
    clients = [world.add(n, ["client"]) for n in range(150)]
    for client in clients:
        world.connect(anchor, client)
    world.run(QUIET)
    assert len(anchor.engine.store.fragments(anchor.handle)) == 3
    held = {key: entry.hash for key, entry in anchor.engine.store.entries()}
    world.cut(anchor, clients[70])
    world.run(1)
    world.connect(anchor, clients[70])
    world.run(QUIET)
    changed = [key for key, entry in anchor.engine.store.entries() if held.get(key) != entry.hash]
    assert sorted(changed) == sorted([(anchor.handle, 1), (clients[70].handle, 0)])
    assert clients[0].engine.path(clients[70].handle, world.now) == (
        clients[0].handle,
        anchor.handle,
        clients[70].handle,
    )
