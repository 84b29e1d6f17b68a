# SPDX-License-Identifier: MIT
"""How soon a change is behind everybody and what it costs: the bounds of C{bench.convergence}."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random
from statistics import median
from typing import Any

import networkx as nx
import pytest
from routing.oracle import geometric, named, real

from gmesh.testing.engine_mesh import EngineMesh
from gmesh.testing.engine_node import EngineNode

QUIET = 4.0
TICK = 0.010
RECORDS = 1.1
"""The simulation that the costs come from had records of 13 in some 170 bytes less."""


def built(graph: Any, seed: int = 1) -> EngineMesh:
    """A converged mesh of this shape."""
    mesh = EngineMesh(seed)
    mesh.build(named(graph))
    mesh.run(1)
    return mesh


def uses(node: EngineNode, near: str, far: str) -> bool:
    """Whether the path of a node to the far end of a link goes over that link."""
    return (near, far) in pairwise(node.path(far) or [])


def behind(mesh: EngineMesh, edge: tuple[str, str]) -> float:
    """Cut a link. @return: seconds until no path uses it."""
    start, ways = mesh.now(), (edge, edge[::-1])
    waiting = [(node, *way) for node in mesh for way in ways if uses(node, *way)]
    assert waiting
    mesh.cut(*edge)
    while waiting := [(node, near, far) for node, near, far in waiting if uses(node, near, far)]:
        mesh.run(TICK)
        assert mesh.now() - start < 10
    return mesh.now() - start


@pytest.mark.parametrize(
    ("graph", "bound"),
    [
        (lambda: nx.barabasi_albert_graph(200, 3, seed=1), 0.5),
        (lambda: geometric(200, 1, 10.6), 0.5),
        pytest.param(lambda: nx.barabasi_albert_graph(1000, 3, seed=1), 1.0, marks=pytest.mark.soak),
    ],
    ids=["scale-free-200", "geometric-200", "scale-free-1000"],
)
def test_a_lost_link_and_a_revocation_are_soon_behind_everybody(
    graph: Callable[[], Any], bound: float
) -> None:
    """No path uses a lost link after 0.5 s, at N = 1,000 after 1 s; 99 % have revoked within a second."""
    mesh, random = built(graph()), Random(2)
    for _ in range(3):
        edge = random.choice(sorted(mesh.edges))
        assert behind(mesh, edge) <= bound
        mesh.connect(*edge)
        mesh.run(QUIET)
    start = mesh.now()
    names = sorted(mesh.nodes)
    mesh.revoke(names[-1], names[0])
    mesh.run(1)
    applied = [at for node in mesh for kind, at in node.applied if kind == "crl" and at >= start]
    assert len(applied) >= 0.99 * len(names)
    mesh.stop()


@pytest.mark.parametrize(
    ("graph", "what", "frames", "kilobytes"),
    [
        (lambda: nx.cycle_graph(50), "link", 98, 15),
        (lambda: nx.grid_2d_graph(7, 7), "link", 236, 40),
        (lambda: real("topozoo/TataNld"), "link", 436, 73),
        (lambda: real("topozoo/TataNld"), "node", 639, 99),
        (lambda: nx.grid_2d_graph(14, 14), "node", 2104, 360),
        (lambda: nx.barabasi_albert_graph(200, 3, seed=4), "link", 1962, 527),
        pytest.param(lambda: real("gabriel/500/0"), "node", 5102, 858, marks=pytest.mark.soak),
    ],
    ids=[
        "ring-50",
        "grid-49",
        "tatanld",
        "tatanld-node",
        "grid-196-node",
        "scale-free-200",
        "gabriel-500-node",
    ],
)
def test_a_change_costs_no_more(graph: Callable[[], Any], what: str, frames: int, kilobytes: int) -> None:
    """Frames and bytes of one failure in the whole mesh, median of three."""
    mesh, random = built(graph(), seed=4), Random(5)
    found = []
    for _ in range(3):
        mesh.frames.clear()
        mesh.bytes = 0
        if what == "link":
            edge = random.choice(sorted(mesh.edges))
            mesh.cut(*edge)
        else:
            name = random.choice(sorted(mesh.nodes))
            neighbours = mesh.kill(name)
        mesh.run(QUIET)
        found.append((sum(mesh.frames.values()), mesh.bytes / 1000))
        if what == "link":
            mesh.connect(*edge)
        else:
            mesh.restart(name, neighbours)
        mesh.run(2 * QUIET)
    assert median(count for count, _ in found) <= RECORDS * frames
    assert median(size for _, size in found) <= RECORDS * kilobytes
    mesh.stop()


@pytest.mark.soak
def test_a_cold_start_costs_no_more() -> None:
    """143 nodes whose links come up within a second: when all know of all links, and what it took."""
    mesh, random = EngineMesh(6), Random(6)
    edges = named(real("topozoo/TataNld"))
    for name in sorted({name for edge in edges for name in edge}):
        mesh.add(name)
    mesh.come_up(edges, random)
    mesh.run(2.31 * RECORDS)
    assert len({node.engine.store.digest() for node in mesh}) == 1
    assert all(len(node.engine.neighbours(node.handle)) == len(node.links) for node in mesh)
    mesh.run(QUIET)
    assert mesh.bytes <= 7.0e6 * RECORDS
    mesh.stop()
