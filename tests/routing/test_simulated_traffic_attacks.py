# SPDX-License-Identifier: MIT
"""Liars in the frames they send and pass on, among honest nodes, and the bound on what it gains."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from routing.oracle import Visits, geometric, named

from gmesh.mesh.limits import HEADER_BURST
from gmesh.testing.engine_mesh import EngineMesh
from gmesh.testing.engine_node import EngineNode
from gmesh.wire.frames import Kind, is_data, pack_frame
from gmesh.wire.messages import Dropped, Unreach
from gmesh.wire.paths import PathHeader, pack_path_frame, read_path


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
            "unknown": relay.counters["forward-unknown-destination"],
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
    """Once a path is not answered, its relays cost four times as much: the next frames go elsewhere."""
    source, target, liar = grid["n0010"], grid["n0014"], grid["n0012"]
    liar.tampers = lambda kind, frame, to: None if is_data(kind) else frame
    path = source.engine.path(target.handle, grid.now())
    assert path is not None
    lost = tuple(grid[f"n{index:04}"].handle for index in (10, 11, 12, 13, 14))
    source.engine.unanswered(lost, grid.now())
    other = source.engine.path(target.handle, grid.now())
    assert other is not None and liar.handle not in other
    assert source.send(target.name, b"x")
    grid.run(1)
    assert [payload for _, _, payload in target.delivered] == [b"x"]
    liar.tampers = None
    grid.run(700)


def own_entry(node: EngineNode) -> bytes:
    """The bytes of a node's own record."""
    entry = node.engine.store.get((node.handle, 0))
    assert entry is not None
    return entry.data


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


def test_field_r2_no_frame_loops_among_liars_and_stale_databases() -> None:
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
        mesh[name].flooding.originate()
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
