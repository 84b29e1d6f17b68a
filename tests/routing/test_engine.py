# SPDX-License-Identifier: MIT
"""The route engine, alone and many together: the invariants on paths and databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations
from random import Random

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing.oracle import check_databases, check_paths, true_graph
from routing.records import WALL, make_engine, make_key, make_member, make_record
from zope.interface.verify import verifyObject

from gmesh.interfaces import IRouteEngine
from gmesh.routing.database import OfferOutcome
from gmesh.routing.record import RecordFlag, handle_of
from gmesh.testing.engine_mesh import EngineMesh
from gmesh.wire.frames import Kind

QUIET = 12.0
"""Seconds after which all is settled in these tests: links appear during the first, spacing is far below."""


def name(number: int) -> str:
    """What a node of a graph is called."""
    return f"n{number:04}"


@contextmanager
def begun(
    graph: nx.Graph, seed: int, settle: float = QUIET, role: Callable[[int], str] = lambda number: "relay"
) -> Iterator[EngineMesh]:
    """A mesh of the shape of a graph, some seconds after its links began to come up; stopped at the end."""
    mesh = EngineMesh(seed)
    for number in sorted(graph):
        mesh.add(name(number), role(number)).start()
    mesh.come_up([(name(one), name(other)) for one, other in sorted(graph.edges)], mesh.random)
    mesh.run(settle)
    yield mesh
    mesh.stop()


def check(mesh: EngineMesh) -> None:
    """Every path is as cheap as the oracle's, databases in a component are equal."""
    check_paths(mesh)
    check_databases(mesh)


def test_seam() -> None:
    """The engine provides what forwarding and sessions ask for."""
    assert verifyObject(IRouteEngine, make_engine("a", ()))


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
    with begun(graph, seed=7) as mesh:
        check(mesh)


@settings(max_examples=40)
@given(st.integers(0, 2**16), st.integers(4, 14), st.floats(0.15, 0.6))
def test_random_graphs_with_churn(seed: int, count: int, density: float) -> None:
    """After links came, fell and returned and all is quiet, the invariants hold; a third are not relays."""
    random = Random(seed)
    graph = nx.gnp_random_graph(count, density, seed=seed)
    with begun(graph, seed, 3.0, lambda number: "client" if random.random() < 0.33 else "relay") as mesh:
        every = set(combinations(sorted(mesh.nodes), 2))
        for _ in range(6):
            apart = every - mesh.edges
            if mesh.edges and (not apart or random.random() < 0.5):
                mesh.cut(*random.choice(sorted(mesh.edges)))
            elif apart:
                mesh.connect(*random.choice(sorted(apart)))
            mesh.run(random.uniform(0, 2))
        mesh.run(60)
        check(mesh)


def test_trace_repeats() -> None:
    """A seed gives the same run to the last record."""
    runs = []
    for _ in range(2):
        with begun(nx.barabasi_albert_graph(15, 2, seed=3), seed=3) as mesh:
            runs.append((mesh.trace, mesh.frames))
    assert runs[0] == runs[1]


def test_failure_is_repaired_quickly() -> None:
    """A detected link failure on a ring of 20 is out of every path within half a second."""
    with begun(nx.cycle_graph(20), seed=2) as mesh:
        mesh.cut(name(4), name(5))
        mesh.run(0.5)
        check(mesh)


def test_partition_and_heal() -> None:
    """Each side prunes the other; on healing only what differs moves, and all is as before."""
    with begun(nx.barbell_graph(6, 0), seed=4) as mesh:
        mesh.cut(name(5), name(6))
        mesh.run(QUIET)
        check(mesh)
        before = mesh.frames[Kind.LSA]
        mesh.connect(name(5), name(6))
        mesh.run(QUIET)
        check(mesh)
        assert mesh.frames[Kind.LSA] - before < 200


def test_restart_without_state() -> None:
    """A node that lost its sequence and whose clock went back is heard again within seconds."""
    with begun(nx.cycle_graph(6), seed=5) as mesh:
        lost = mesh[name(2)]
        peers = mesh.kill(lost.name)
        mesh.run(1)
        lost.sequence = high = lost.engine.sequence + (10**6 << 20)
        mesh.restart(lost.name, peers[:1])
        mesh.run(QUIET)
        mesh.kill(lost.name)
        mesh.restart(lost.name, peers, keep=False)
        mesh.run(QUIET)
        check(mesh)
        assert lost.engine.sequence > high


def test_overload_drains() -> None:
    """After OVERLOAD nobody's path has the node inside, it is still reached itself, and sends."""
    grid = nx.convert_node_labels_to_integers(nx.grid_2d_graph(3, 3), ordering="sorted")
    with begun(grid, seed=6) as mesh:
        centre = mesh[name(4)]
        centre.engine.overload(mesh.now())
        centre.flooding.originate()
        mesh.run(1)
        for node in mesh:
            for target in mesh:
                path = node.engine.path(target.handle, mesh.now())
                assert path is not None and centre.handle not in path[1:-1]


def test_revocation_cuts_at_once() -> None:
    """In the same call no path starts at, ends at or crosses the revoked node, and its record is gone."""
    members, revoked = [make_member(number) for number in range(5)], set[str]()
    handles = [handle_of(member.node_key) for member in members]
    engine = make_engine(0, members[1:], revoked)
    for number in range(1, 5):
        around = {number - 1: 96, (number + 1) % 5: 96}
        assert engine.offer(make_record(number, around), 0.0, WALL).outcome is OfferOutcome.ACCEPTED
    engine.link_up(handles[1], 96, 0.0)
    engine.link_up(handles[4], 96, 0.0)
    assert engine.path(handles[2], QUIET) == tuple(handles[:3])
    revoked.add(members[1].node_id)
    assert engine.revocations_changed(QUIET) == [handles[1]]
    for target in handles:
        path = engine.path(target, QUIET)
        assert path is None or handles[1] not in path
    assert engine.path(handles[2], QUIET) is not None
    assert engine.store.get((handles[1], 0)) is None


def test_one_sided_claims_make_no_edge() -> None:
    """A record that lists us without our link, or us alone, opens no path."""
    one, liar = handle_of(make_key("one")), handle_of(make_key("liar"))
    engine = make_engine("one", [make_member("liar")])
    assert engine.offer(make_record("liar", {"one": 1}), 0.0, WALL).outcome is OfferOutcome.ACCEPTED
    assert engine.path(liar, 1.0) is None
    engine.link_up(liar, 96, 1.0)
    assert engine.path(liar, 2.0) == (one, liar)


def test_relay_flag_needs_the_certificate() -> None:
    """A client that flags itself RELAY is no interior hop; neither is a relay without the flag."""
    far = handle_of(make_key("far"))
    for roles, flags in ((("client",), RecordFlag.RELAY), (("relay",), RecordFlag(0))):
        engine = make_engine("one", [make_member("middle", roles), make_member("far")])
        engine.link_up(handle_of(make_key("middle")), 96, 0.0)
        engine.offer(make_record("middle", {"one": 96, "far": 96}, flags=flags), 0.0, WALL)
        engine.offer(make_record("far", {"middle": 96}), 0.0, WALL)
        assert engine.path(far, 1.0) is None
        assert engine.explain(far, 1.0)[0] == "unreachable"


def test_explanations() -> None:
    """No path has a reason: unknown, unreachable, or too far with both numbers."""
    with begun(nx.path_graph(5), seed=1) as mesh:
        engine, last = mesh[name(0)].engine, mesh[name(4)].handle
        engine.set_bounds(3, 100, mesh.now())
        assert engine.path(last, mesh.now()) is None
        assert engine.explain(last, mesh.now()) == ("too-far", "too far: 4 hops, limit 3")
        assert engine.explain(b"?" * 8, mesh.now())[0] == "unknown-node"


def test_table_and_nodes() -> None:
    """The table lists path and cost of everybody in reach; nodes lists everybody known."""
    with begun(nx.path_graph(4), seed=1) as mesh:
        first = mesh[name(0)]
        costs = nx.single_source_dijkstra_path_length(true_graph(mesh), first.name)
        table = first.engine.table(mesh.now())
        assert {mesh.name_of(handle): cost for handle, _, cost in table} | {first.name: 0} == costs
        assert all(path[0] == first.handle and path[-1] == handle for handle, path, _ in table)
        known = first.engine.nodes(mesh.now())
        assert [node.handle for node in known] == sorted(node.handle for node in mesh)
        assert all(node.reachable for node in known)


def test_unreachable_is_forgotten_after_an_hour() -> None:
    """A node out of reach keeps its record for an hour, whatever else changes, then it is dropped."""
    with begun(nx.path_graph(2), seed=1) as mesh:
        mesh.cut(name(0), name(1))
        engine, now, wall = mesh[name(0)].engine, mesh.now(), mesh.wall()
        engine.expire(now + 1, wall)
        engine.overload(now + 1800)
        assert engine.originate(now + 1800, wall)
        engine.expire(now + 1800, wall)
        engine.expire(now + 3500, wall)
        assert engine.store.origins == 2
        engine.expire(now + 3601, wall)
        assert engine.store.origins == 1


def test_evidence() -> None:
    """The record shown in UNREACH is our own and does not list the failed link; none before it is signed."""
    with begun(nx.path_graph(2), seed=1) as mesh:
        engine, other = mesh[name(0)].engine, mesh[name(1)].handle
        assert engine.evidence(other) is None
        engine.link_down(other, mesh.now())
        assert engine.evidence(other) is None
        ((_, data),) = engine.originate(mesh.now(), mesh.wall())
        assert engine.evidence(other) == data


def test_avoid_and_limit() -> None:
    """A detour avoids what it is told to and fits into the hops left."""
    with begun(nx.cycle_graph(6), seed=1) as mesh:
        handles = [mesh[name(number)].handle for number in range(6)]
        engine = mesh[name(0)].engine
        path = engine.path(handles[3], mesh.now(), frozenset([handles[1]]))
        assert path == tuple(handles[number] for number in (0, 5, 4, 3))
        assert engine.path(handles[3], mesh.now(), frozenset([handles[1]]), 2) is None
        assert engine.path(handles[3], mesh.now(), frozenset([handles[1], handles[5]])) is None


def test_anchor_star_flap_touches_two_records() -> None:
    """One client's flap in a star of 150 re-signs one fragment of the anchor and the client's record."""
    mesh = EngineMesh(9)
    anchor = mesh.add("anchor", "anchor")
    clients = [mesh.add(name(number), "client") for number in range(150)]
    for node in mesh:
        node.start()
    for client in clients:
        mesh.connect("anchor", client.name)
    mesh.run(QUIET)
    assert len(anchor.engine.store.fragments(anchor.handle)) == 3
    held = {key: entry.hash for key, entry in anchor.engine.store.entries()}
    mesh.cut("anchor", clients[70].name)
    mesh.run(1)
    mesh.connect("anchor", clients[70].name)
    mesh.run(QUIET)
    changed = [key for key, entry in anchor.engine.store.entries() if held.get(key) != entry.hash]
    assert sorted(changed) == sorted([(anchor.handle, 1), (clients[70].handle, 0)])
    assert clients[0].path(clients[70].name) == [clients[0].name, "anchor", clients[70].name]
    mesh.stop()
