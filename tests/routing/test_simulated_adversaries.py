# SPDX-License-Identifier: MIT
"""Every liar the design knows, in a mesh of honest nodes, and the bound on what it gains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import networkx as nx
import pytest
from routing.oracle import Visits, check_databases, check_paths, geometric, named

from gmesh.mesh.network_limits import HEADER_BURST
from gmesh.routing.record import NodeRecord, signing_input
from gmesh.testing.engine_mesh import EngineMesh
from gmesh.testing.engine_node import EngineNode, StubSigner
from gmesh.wire.frames import Kind, is_data, pack_frame
from gmesh.wire.messages import Dropped, Lsa, Unreach
from gmesh.wire.paths import PathHeader, pack_path_frame, read_path

QUIET = 4.0


@pytest.fixture
def grid() -> Iterator[EngineMesh]:
    """Five by five relays: n0000 in one corner, n0024 in the other, n0012 in the middle."""
    mesh = EngineMesh(seed=9)
    mesh.build(named(nx.grid_2d_graph(5, 5)))
    mesh.run(2)
    yield mesh
    check_paths(mesh)
    check_databases(mesh)
    mesh.stop()


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
    liar.keeper.schedule()
    mesh.run(QUIET)
    far = next(node for node in mesh if node is not liar and node.name not in liar.links)
    assert {cost for _, cost in far.engine.store.fragments(liar.handle)[0].record.links} == {1}
    assert shares(mesh)[liar.name] == before[liar.name] > 0
    mesh.stop()


def test_a_one_sided_link_is_none(grid: EngineMesh) -> None:
    """A link that only one end lists leads nowhere, however cheap."""
    liar = grid["n0000"]
    liar.engine.originator.link_up(grid["n0024"].handle, 1, grid.now())
    liar.keeper.schedule()
    grid.run(QUIET)
    assert any(handle == grid["n0024"].handle for handle, _ in own_record(liar).links)


def test_forged_and_altered_records_are_refused(grid: EngineMesh) -> None:
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
    grid.edges = {edge for edge in grid.edges if liar.name not in edge}
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
    """More than ten minutes ahead: refused everywhere, whoever signed it."""
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


@pytest.mark.parametrize("what", ["repeats", "unknown", "long", "spoofed"])
def test_a_path_that_is_not_allowed_goes_nowhere(grid: EngineMesh, what: str) -> None:
    """The first honest relay drops it and counts why; nobody further on sees it."""
    liar, relay = grid["n0000"], grid["n0001"]
    h = [grid[f"n{index:04}"].handle for index in range(25)]
    path = {
        "repeats": (h[0], h[1], h[0], h[1], h[2]),
        "unknown": (h[0], h[1], b"stranger"),
        "long": (h[0], h[1], *(bytes([1, index] * 4) for index in range(34))),
        "spoofed": (h[5], h[0], h[1], h[2]),
    }[what]
    visits = Visits(grid)
    hop = 2 if what == "spoofed" else 1
    frame = pack_path_frame(Kind.E2E_DATA, PathHeader(path, 7, 1, hop), b"x")
    liar.links[relay.name].send_data(frame, path[0] + path[-1])
    grid.run(1)
    seen = [name for names in visits.seen.values() for name in names] + visits.malformed
    if what == "spoofed":
        assert seen == ["n0001", "n0002"]
        assert grid["n0002"].delivered[-1][1].source == h[5]
    else:
        assert seen == ["n0001"]
        assert {
            "repeats": relay.counters["forward-repeated-hop"],
            "unknown": relay.counters["unreachable"],
            "long": relay.counters["forward-too-long"],
        }[what] == 1


def test_a_relay_that_rewrites_the_path_gains_one_visit_each(grid: EngineMesh) -> None:
    """Sent round again with the visited prefix erased, a frame is a new one: the hop limit holds for each."""
    liar = grid["n0012"]
    source, target = grid["n0010"], grid["n0014"]
    circle = [grid[name].handle for name in ("n0012", "n0013", "n0018", "n0017", "n0016", "n0011", "n0010")]
    sent = 0

    def again(kind: int, frame: bytes, to: str) -> bytes | None:
        nonlocal sent
        if not is_data(kind) or sent >= 10:
            return frame
        sent += 1
        return pack_path_frame(kind, PathHeader(tuple(circle), 7, 100 + sent, 1), b"again")

    arrivals: Counter[str] = Counter()
    grid.visit = lambda name, kind, frame: arrivals.update([name])
    liar.tampers = again
    path = tuple(grid[f"n{index:04}"].handle for index in (10, 11, 12, 13, 14))
    assert source.send(target.name, b"x", path)
    grid.run(2)
    liar.tampers = None
    assert sent == 1 and max(arrivals.values()) <= 2 and sum(arrivals.values()) <= 2 + len(circle)
    assert target.delivered == []


def test_a_relay_that_drops_everything_is_bypassed(grid: EngineMesh) -> None:
    """After a session blamed the path, its relays cost four times as much: the next frames go elsewhere."""
    source, target, liar = grid["n0010"], grid["n0014"], grid["n0012"]
    liar.tampers = lambda kind, frame, to: None if is_data(kind) else frame
    path = source.engine.path(target.handle, grid.now())
    assert path is not None
    lost = tuple(grid[f"n{index:04}"].handle for index in (10, 11, 12, 13, 14))
    source.engine.penalise(lost, grid.now())
    other = source.engine.path(target.handle, grid.now())
    assert other is not None and liar.handle not in other
    assert source.send(target.name, b"x")
    grid.run(1)
    assert [payload for _, _, payload in target.delivered] == [b"x"]
    liar.tampers = None
    grid.run(700)


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


def test_forged_unreach_and_dropped_bring_down_nothing(grid: EngineMesh) -> None:
    """UNREACH without a record that proves it is ignored; DROPPED is a hint to one flow. Routes stay."""
    source, target = grid["n0010"], grid["n0014"]
    path = tuple(grid[f"n{index:04}"].handle for index in (10, 11, 12, 13, 14))
    liar = grid["n0011"]
    entry = grid["n0013"].engine.store.get((grid["n0013"].handle, 0))
    assert entry is not None
    back = PathHeader((liar.handle, source.handle), 7, 1, 1)
    for body in (
        Unreach(target.handle, path[3], entry.data).encode(),
        Unreach(target.handle, path[2], own_entry(liar)).encode(),
    ):
        liar.links[source.name].send_data(pack_path_frame(Kind.UNREACH, back, body), b"f" * 16)
    liar.links[source.name].send_data(
        pack_path_frame(Kind.DROPPED, back, Dropped(target.handle, 1).encode()), b"f" * 16
    )
    before = source.path(target.name)
    grid.run(1)
    assert source.counters["unreach-unproven"] == 2
    assert [reason for _, reason in source.undelivered] == ["dropped"]
    assert source.path(target.name) == before


def own_entry(node: EngineNode) -> bytes:
    """The bytes of a node's own record."""
    entry = node.engine.store.get((node.handle, 0))
    assert entry is not None
    return entry.data


def test_no_frame_loops_among_liars_and_stale_databases() -> None:
    """Invariant 1 while every fifth node claims links it lacks and links fall faster than records travel."""
    random = Random(6)
    mesh = EngineMesh(seed=6, delays=(0.05, 0.2))
    mesh.build(named(geometric(60, 6)))
    visits = Visits(mesh)
    names = sorted(node.name for node in mesh)
    for name in names[::5]:
        for other in random.sample(names, 5):
            if other != name and other not in mesh[name].links:
                mesh[name].engine.originator.link_up(mesh[other].handle, 1, mesh.now())
        mesh[name].keeper.schedule()
    for _ in range(60):
        mesh.cut(*random.choice(sorted(mesh.edges)))
        for _ in range(10):
            source, target = random.sample(names, 2)
            mesh[source].send(target)
        mesh.run(0.02)
    mesh.run(5)
    assert visits.frames > 500
    mesh.stop()


def test_a_relay_passes_on_what_arrived_from_where_the_path_says(grid: EngineMesh) -> None:
    """Another node's place in the path cannot be taken."""
    liar, relay = grid["n0006"], grid["n0011"]
    path = tuple(grid[name].handle for name in ("n0010", "n0011", "n0012"))
    frame = pack_path_frame(Kind.E2E_DATA, PathHeader(path, 7, 1, 1), b"x")
    liar.links[relay.name].send_data(frame, path[0] + path[-1])
    grid.run(1)
    assert relay.counters["forward-wrong-ingress"] == 1
    assert grid["n0012"].delivered == []
    assert read_path(frame, 0, len(frame))[0].path == path
    assert pack_frame(Kind.LSA, b"")[:2] == b"\0\0"


def test_a_source_of_made_up_paths_pays_at_its_first_relay(grid: EngineMesh) -> None:
    """Ever new headers of one source are judged at a bounded rate; what others send goes on beside them."""
    liar, relay, target = grid["n0010"], grid["n0011"], grid["n0012"]
    path = tuple(node.handle for node in (liar, relay, target))
    other = grid["n0006"]
    for number in range(3 * HEADER_BURST):
        stranger = number.to_bytes(8, "big")
        frame = pack_path_frame(Kind.E2E_DATA, PathHeader((*path, stranger), 7, 1, 1), b"x")
        liar.links[relay.name].send_data(frame, path[0] + stranger)
    assert other.send(target.name, b"honest", (other.handle, relay.handle, target.handle))
    grid.run(1)
    assert relay.counters["forward-header-rate"] >= HEADER_BURST
    assert target.counters["unreachable"] <= HEADER_BURST + 1
    assert [payload for _, _, payload in target.delivered] == [b"honest"]
