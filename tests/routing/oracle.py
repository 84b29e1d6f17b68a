# SPDX-License-Identifier: MIT
"""
What networkx says about a simulated mesh, and the topologies it is asked about.

The oracle sees the true links only; what a node believes is compared with it.
"""

from __future__ import annotations

import json
from importlib.resources import files
from itertools import pairwise
from typing import Any

import networkx as nx
import pytest

from gmesh.errors import FrameRefused
from gmesh.mesh.limits import MAX_NOTICE_FLOWS, MAX_TRANSITS
from gmesh.routing.limits import MAX_DETOURS
from gmesh.testing.engine_mesh import EngineMesh
from gmesh.testing.engine_node import EngineNode
from gmesh.wire.frames import Kind
from gmesh.wire.paths import read_path

HOPS = 100_000
"""Costs are compared first, hops next: one number, cost times this plus hops."""


def named(graph: Any) -> list[tuple[str, str]]:
    """The edges of a networkx graph between names."""
    order = {node: f"n{index:04}" for index, node in enumerate(sorted(graph, key=str))}
    return [(order[one], order[other]) for one, other in graph.edges if one != other]


def geometric(size: int, seed: int, degree: float = 10.0) -> Any:
    """A random geometric graph, its largest component."""
    graph = nx.random_geometric_graph(size, (degree / (3.14159 * size)) ** 0.5, seed=seed)
    return graph.subgraph(max(nx.connected_components(graph), key=len))


def two_cliques(size: int) -> Any:
    """Two complete graphs and one bridge."""
    return nx.barbell_graph(size, 0)


def real(name: str) -> Any:
    """A real topology of topohub: C{topozoo/TataNld}, C{sndlib/germany50}, ..."""
    pytest.importorskip("topohub", reason="topohub is on PyPI only")
    data = json.loads((files("topohub") / f"data/{name}.json").read_text())
    return nx.Graph(nx.node_link_graph(data, edges="edges"))


def true_graph(mesh: EngineMesh) -> Any:
    """Links that are up between nodes that run."""
    graph = nx.Graph()
    graph.add_nodes_from(node.name for node in mesh if node.running)
    graph.add_weighted_edges_from((one, other, mesh.cost(one, other)) for one, other in mesh.edges)
    return graph


def transits(mesh: EngineMesh) -> set[str]:
    """Nodes that may be interior hops."""
    return {node.name for node in mesh if node.running and node.peer.relay}


def directed(graph: Any, source: str, relays: set[str]) -> Any:
    """The arcs a path from C{source} may take."""
    arcs = nx.DiGraph()
    arcs.add_nodes_from(graph)
    for one, other, cost in graph.edges(data="weight"):
        for here, there in ((one, other), (other, one)):
            if here == source or here in relays:
                arcs.add_edge(here, there, weight=cost * HOPS + 1)
    return arcs


def check_paths(mesh: EngineMesh, sources: list[str] | None = None) -> int:
    """
    Invariant 2: each path is as cheap as Dijkstra's; beyond the hop limit as short as any, or refused.

    @return: how many pairs were compared.
    """
    graph, relays = true_graph(mesh), transits(mesh)
    compared = 0
    for name in sources or sorted(graph):
        node = mesh[name]
        arcs = directed(graph, name, relays)
        best = nx.single_source_dijkstra_path_length(arcs, name)
        limit = node.engine.max_hops
        for other in graph:
            path = node.engine.path(mesh[other].handle, mesh.now())
            compared += 1
            cost, hops = divmod(best.get(other, 0), HOPS)
            if other not in best:
                assert path is None, (name, other, node.path(other))
                reason = node.engine.explain(mesh[other].handle, mesh.now())[0]
                assert reason in ("unreachable", "unknown-node"), reason
                continue
            if hops > limit:
                shortest = nx.shortest_path_length(arcs, name, other)
                if shortest > limit:
                    assert path is None
                    assert node.engine.explain(mesh[other].handle, mesh.now())[0] == "too-far"
                    continue
                hops, cost = shortest, 0
            assert path is not None, (name, other)
            names = [mesh.name_of(handle) for handle in path]
            assert all(graph.has_edge(*edge) for edge in pairwise(names)), (name, other, names)
            assert len(names) - 1 == hops, (names, hops)
            assert cost in (0, sum(graph.edges[edge]["weight"] for edge in pairwise(names))), names
            assert len(set(names)) == len(names) and set(names[1:-1]) <= relays
    return compared


def check_databases(mesh: EngineMesh) -> None:
    """Invariant 3: all databases of a component are equal."""
    for component in nx.connected_components(true_graph(mesh)):
        assert len({mesh[name].engine.store.digest() for name in component}) == 1, sorted(component)


def check_numbers(mesh: EngineMesh, seen: dict[tuple[str, bytes, int], int]) -> None:
    """Invariant 8: no record anywhere is older than the one that was there before."""
    for node in mesh:
        for key, entry in node.engine.store.entries() if node.running else ():
            place = (node.name, *key)
            assert entry.record.sequence >= seen.get(place, 0), (node.name, mesh.name_of(key[0]))
            seen[place] = entry.record.sequence


def bounded(node: EngineNode, nodes: int, links: int = 3) -> None:
    """Invariant 6: no table of a node is larger than its limit, whatever has happened."""
    engine, forwarding, flooding = node.engine, node.forwarding, node.flooding
    assert len(engine.store) <= nodes and engine.store.tombstones <= 2 * nodes
    assert len(engine._paths._detours) <= MAX_DETOURS and len(engine._paths._paths) <= nodes
    assert len(engine._unreachable) <= nodes
    assert len(engine.originator._lost) <= links and len(engine.originator.links) <= links
    assert len(forwarding._notices) <= MAX_NOTICE_FLOWS and len(forwarding._lost) <= MAX_NOTICE_FLOWS
    assert len(forwarding.transits) <= MAX_TRANSITS and len(forwarding.links) <= links
    assert len(flooding._waiting) <= links * nodes and len(node.neighbours) <= links
    for neighbour in node.neighbours:
        assert len(neighbour.outbox.eager) + len(neighbour.outbox.lazy) <= nodes
        assert len(neighbour.records._asked) <= 2 * nodes


class Visits:
    """Invariant 1, at every arrival: each frame visits a node at most once, and at most so many."""

    def __init__(self, mesh: EngineMesh, max_hops: int = 32) -> None:
        self.max_hops = max_hops
        self.seen: dict[tuple[bytes, bytes, int], list[str]] = {}
        self.frames = 0
        self.malformed: list[str] = []
        mesh.visit = self

    def __call__(self, name: str, kind: int, frame: bytes) -> None:
        if kind != Kind.E2E_DATA:
            return
        try:
            header, _ = read_path(frame, 0, len(frame))
        except FrameRefused:
            self.malformed.append(name)
            return
        visited = self.seen.setdefault((header.source, header.destination, header.counter), [])
        assert name not in visited, f"a frame came to {name} again: {visited}"
        visited.append(name)
        assert len(visited) <= self.max_hops
        self.frames += 1
