# SPDX-License-Identifier: MIT
"""Liars in what they say of themselves and others, among honest nodes, and the bound on what it gains."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import networkx as nx
import pytest
from routing.oracle import geometric, named

from gmesh.routing.limits import UP_STABLE
from gmesh.routing.record import NodeRecord, signing_input
from gmesh.testing.engine_mesh import EngineMesh
from gmesh.testing.engine_node import EngineNode
from gmesh.testing.engine_stubs import StubSigner
from gmesh.wire.frames import Kind
from gmesh.wire.messages import Lsa

QUIET = 4.0
FLOODED = {Kind.LSA, Kind.IHAVE, Kind.SYNC_LIST, Kind.SYNC_DIGEST, Kind.SYNC_WANT}


def own_record(node: EngineNode) -> NodeRecord:
    """What a node says of itself now."""
    entry = node.engine.store.get((node.handle, 0))
    assert entry is not None
    return entry.record


def signed(signer: StubSigner, record: NodeRecord, **changes: Any) -> bytes:
    """A record with other content, signed by whoever has that key."""
    fields = {name: getattr(record, name) for name in record.__slots__} | changes | {"signature": b""}
    unsigned = NodeRecord(**fields).encode_unsigned()
    return unsigned + signer.sign(signing_input(unsigned))


def say(node: EngineNode, *records: bytes) -> None:
    """A node sends records to each of its neighbours."""
    for link in list(node.links.values()):
        link.send_control(Kind.LSA, Lsa(records).encode())


def shares(mesh: EngineMesh) -> Counter[str]:
    """Through how many of the ordered pairs' paths each node is an interior hop."""
    count: Counter[str] = Counter()
    for node in mesh:
        for other in mesh:
            count.update((node.path(other.name) or [])[1:-1])
    return count


@pytest.mark.parametrize("shape", ["grid", "geometric", "barabasi-albert"])
def test_a_lone_liar_attracts_its_honest_share(shape: str) -> None:
    """With every own cost at 1 and a link to everybody claimed, a node carries what it carried before."""
    graph = {
        "grid": lambda: nx.grid_2d_graph(9, 9),
        "geometric": lambda: geometric(90, 3),
        "barabasi-albert": lambda: nx.barabasi_albert_graph(90, 3, seed=3),
    }[shape]()
    mesh = EngineMesh(seed=3)
    mesh.build(named(graph), roles=lambda name: ("anchor",))
    mesh.run(2)
    before = shares(mesh)
    liar = mesh[sorted(before, key=lambda name: (before[name], name))[len(before) // 2]]
    for other in mesh:
        if other.name in liar.links:
            liar.engine.originator.set_cost(other.handle, 1, mesh.now())
        elif other is not liar:
            liar.engine.originator.link_up(other.handle, 1, mesh.now())
    liar.flooding.originate()
    mesh.run(QUIET)
    far = next(node for node in mesh if node is not liar and node.name not in liar.links)
    assert {cost for _, cost in far.engine.store.fragments(liar.handle)[0].record.links} == {1}
    assert shares(mesh)[liar.name] == before[liar.name] > 0
    mesh.stop()


def test_field_r3_a_one_sided_link_is_none(grid: EngineMesh) -> None:
    """A link that only one end lists leads nowhere, however cheap."""
    liar = grid["n0000"]
    liar.engine.originator.link_up(grid["n0024"].handle, 1, grid.now())
    liar.flooding.originate()
    grid.run(QUIET)
    assert any(handle == grid["n0024"].handle for handle, _ in own_record(liar).links)


def test_field_r3_forged_and_altered_records_are_refused(grid: EngineMesh) -> None:
    """Signed by another key, or changed on the way: refused at once; a link that goes on with it ends."""
    liar, victim = grid["n0012"], grid["n0024"]
    record = own_record(victim)
    forged = signed(liar.signer, record, sequence=record.sequence + 1, links=())
    entry = victim.engine.store.get((victim.handle, 0))
    assert entry is not None
    altered = entry.data[:60] + bytes([entry.data[60] ^ 1]) + entry.data[61:]
    neighbours = list(liar.links)
    say(liar, forged, altered)
    grid.run(1)
    assert sum(grid[name].counters["record-bad-signature"] for name in neighbours) >= len(neighbours)
    assert all(own_record(victim) == node.engine.store.fragments(victim.handle)[0].record for node in grid)
    for _ in range(60):
        say(liar, forged)
        grid.run(0.01)
    assert liar.links == {}
    assert not any(liar.name in edge for edge in grid.edges)
    grid.run(QUIET)


def test_an_old_record_has_no_effect(grid: EngineMesh) -> None:
    """Replayed by a neighbour, it is answered with the newer one."""
    victim, liar = grid["n0024"], grid["n0012"]
    old = victim.engine.store.get((victim.handle, 0))
    assert old is not None
    grid.cut("n0023", "n0024")
    grid.run(QUIET)
    say(liar, old.data)
    grid.run(1)
    assert all(own_record(victim) == node.engine.store.fragments(victim.handle)[0].record for node in grid)


def test_a_record_from_the_future_waits_for_its_time(grid: EngineMesh) -> None:
    """More than 45 minutes ahead: refused everywhere, whoever signed it."""
    node = grid["n0007"]
    record = own_record(node)
    ahead = int(grid.wall()) + 3600
    say(node, signed(node.signer, record, issued_at=ahead, sequence=ahead << 20))
    grid.run(1)
    assert sum(other.counters["record-future"] for other in grid) == len(node.links)


def test_equivocation_ends_in_one_record(grid: EngineMesh) -> None:
    """Two records of one sequence, told to two sides: all nodes settle on the same one, within the flood."""
    node = grid["n0012"]
    record = own_record(node)
    sequence = record.sequence + 5
    told = [signed(node.signer, record, sequence=sequence, lifetime=lifetime) for lifetime in (3000, 3100)]
    sides = sorted(node.links)
    for name, data in zip(sides, told, strict=False):
        node.links[name].send_control(Kind.LSA, Lsa((data,)).encode())
    grid.run(QUIET)
    assert node.engine.originator.sequence > sequence


def test_a_record_flood_is_held_to_its_rate(grid: EngineMesh) -> None:
    """Hundreds of good records of one origin: a burst is passed on and one a second; then digests heal."""
    node = grid["n0012"]
    record = own_record(node)
    far = grid["n0000"]
    before = far.counters["record-accepted"]
    for number in range(300):
        say(node, signed(node.signer, record, sequence=record.sequence + 1 + number))
        grid.run(0.01)
    assert far.counters["record-accepted"] - before <= 5 + 3 + 2
    grid.run(320)


def test_a_withheld_revocation_arrives_another_way(grid: EngineMesh) -> None:
    """A relay that keeps CRLs to itself delays nobody who has an honest neighbour."""
    liar = grid["n0001"]
    liar.tampers = lambda kind, frame, to: None if kind == Kind.CRL else frame
    grid.revoke("n0024", "n0000")
    grid.run(1)
    number = grid.issuer.crl.body.number
    assert {node.trust.crl.body.number for node in grid if node.links and node.trust.crl} == {number}
    assert all(node.path("n0024") is None for node in grid if node.name != "n0024")
    liar.tampers = None
    assert grid["n0024"].links == {}
    grid.run(QUIET)


@pytest.mark.parametrize("kept", [FLOODED, {Kind.LSA}], ids=["everything", "what-it-offers"])
def test_withheld_records_hide_nobody_who_has_another_way(grid: EngineMesh, kept: set[Kind]) -> None:
    """
    A relay passes no record on, or names them and answers nothing: all reach a new neighbour of it, and it
    them, as soon as its other link is told.
    """
    liar = grid["n0012"]
    liar.tampers = lambda kind, frame, to: None if kind in kept else frame
    grid.add("n0025").start()
    grid.connect("n0012", "n0025")
    grid.connect("n0013", "n0025")
    names = [node.name for node in grid if node is not liar]
    took = grid.run_until(
        lambda: all(grid[name].path("n0025") and grid["n0025"].path(name) for name in names), within=10
    )
    assert took <= UP_STABLE + 1
    grid.cut("n0013", "n0014")
    edge = [grid["n0013"].handle, grid["n0014"].handle]
    took = grid.run_until(lambda: not any(uses(grid[name], edge) for name in names), within=10)
    assert took <= 1
    liar.tampers = None
    grid.cut("n0012", "n0013")
    grid.connect("n0012", "n0013")
    grid.run(QUIET)


def uses(node: EngineNode, edge: list[bytes]) -> bool:
    """Whether any path of a node goes over this link."""
    ways = [path for _, path, _ in node.engine.table(node.mesh.now())]
    return any(list(pair) in (edge, edge[::-1]) for path in ways for pair in pairwise(path))
