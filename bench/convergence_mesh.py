# SPDX-License-Identifier: MIT
"""Converged meshes of known shapes, and what is measured of them in virtual time."""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from random import Random
from typing import Any

import networkx as nx
import topohub

from gmesh.mesh.limits import WAN, KeepaliveProfile
from gmesh.routing.limits import MAX_RECORD_LINKS
from gmesh.routing.spf import shortest_paths
from gmesh.testing.engine_mesh import EngineMesh
from gmesh.testing.mesh import MemoryMesh

__all__ = [
    "SETTLED",
    "TOLERANCE",
    "Figure",
    "change",
    "cold_start",
    "link_failures",
    "revocation",
    "silent_failure",
    "spf",
    "world",
]

TICK = 0.010
"""How often routes are looked at: the resolution of the figures."""
SETTLED = 4.0
TOLERANCE = 1.1
"""The records of the simulation that the bounds of a change come from were 13 of 166 bytes smaller."""
REAL = {"tatanld": "topozoo/TataNld", "caida": "caida/2024-08/7018", "gabriel": "gabriel/500/0"}
"""Topologies of topohub."""


@dataclass
class Figure:
    """One line: what was measured, what was wanted or known, and whether it is kept."""

    what: str
    measured: float
    unit: str
    bound: float | None = None
    spread: str = ""

    @property
    def kept(self) -> bool:
        """True if there is no bound or it holds."""
        return self.bound is None or self.measured <= self.bound


def graph_of(name: str, seed: int) -> Any:
    """A topology by the name it has in the report."""
    kind, _, size = name.partition("-")
    number = int(size or 0)
    if kind == "ring":
        return nx.cycle_graph(number)
    if kind == "grid":
        side = round(number**0.5)
        return nx.grid_2d_graph(side, side)
    if kind == "ba":
        return nx.barabasi_albert_graph(number, 3, seed=seed)
    if kind == "rgg":
        degree = 14.1 if number >= 1000 else 10.6
        graph = nx.random_geometric_graph(number, (degree / (3.14159 * number)) ** 0.5, seed=seed)
        return graph.subgraph(max(nx.connected_components(graph), key=len))
    data = json.loads((files(topohub) / f"data/{REAL[kind]}.json").read_text())
    return nx.Graph(nx.node_link_graph(data, edges="edges"))


def shape(name: str, seed: int) -> tuple[list[tuple[str, str]], Callable[[str], tuple[str, ...]]]:
    """The links of that shape, and the role of each node: hubs are anchors."""
    graph = graph_of(name, seed)
    order = {node: f"n{index:05}" for index, node in enumerate(sorted(graph, key=str))}
    edges = [(order[one], order[other]) for one, other in graph.edges if one != other]
    degrees = Counter(end for edge in edges for end in edge)
    return edges, lambda node: ("anchor",) if degrees[node] > MAX_RECORD_LINKS else ("relay",)


def world(name: str, seed: int, profile: KeepaliveProfile = WAN) -> EngineMesh:
    """A converged mesh of that shape, in the memory of the one before."""
    gc.collect()
    mesh = EngineMesh(seed, profile=profile)
    mesh.build(*shape(name, seed))
    mesh.run(1)
    return mesh


def pairs_back(mesh: EngineMesh, edge: tuple[str, str]) -> float:
    """Seconds from the detection of a failed link until no source's path uses it."""
    one, other = edge
    affected = []
    for node in mesh:
        for near, far in ((one, other), (other, one)):
            path = node.path(far)
            if path is not None and near in path and path[path.index(near) + 1] == far:
                affected.append((node, near, far))
    mesh.cut(one, other)
    start = mesh.now()
    while affected:
        affected = [
            (node, near, far)
            for node, near, far in affected
            if (path := node.path(far)) is not None and near in path and path[path.index(near) + 1] == far
        ]
        if not affected:
            break
        mesh.run(TICK)
        assert mesh.now() - start < 60, "routes never follow"
    return mesh.now() - start


def link_failures(name: str, trials: int, bound: float) -> Figure:
    """The worst of several link failures in one mesh, each from quiet."""
    mesh = world(name, seed=1)
    random = Random(2)
    took = []
    for _ in range(trials):
        edge = random.choice(sorted(mesh.edges))
        took.append(pairs_back(mesh, edge))
        mesh.connect(*edge)
        mesh.run(SETTLED)
    return Figure(
        f"link failure, {name}: all pairs back, worst of {trials}",
        max(took),
        "s",
        bound,
        f"median {statistics.median(took):.2f}",
    )


def silent_failure(profile: KeepaliveProfile, name: str, bound: float) -> Figure:
    """A link of a ring of six whole nodes goes dead without a word: until routes go the other way."""
    mesh = MemoryMesh(seed=1, profile=profile)
    names = [f"n{index}" for index in range(6)]
    for index, each in enumerate(names):
        mesh.add(each, "relay", peers=[names[index - 1]] if index else [])
    mesh.redial("n0", "n5")
    mesh.start()
    mesh.run_until(lambda: all(node.reaches(*names) for node in mesh))
    mesh.run_until(lambda: mesh["n0"].path("n2") == ["n0", "n1", "n2"])
    mesh.run(20)
    mesh.silence("n1", "n2")
    took = mesh.run_until(lambda: mesh["n0"].path("n2") == ["n0", "n5", "n4", "n3", "n2"])
    mesh.heal()
    mesh.stop()
    return Figure(f"silent failure, {name} profile", took, "s", bound)


def revocation(name: str, bound: float) -> tuple[Figure, list[float]]:
    """From the first node that knows until each node has applied it; and all those times, ascending."""
    mesh = world(name, seed=3)
    start = mesh.now()
    names = sorted(mesh.nodes)
    mesh.revoke(names[-1], names[len(names) // 2])
    mesh.run(SETTLED)
    applied = sorted(at - start for node in mesh for kind, at in node.applied if kind == "crl")
    assert len(applied) >= len(names) - 1, "some node never heard of it"
    share = applied[round(0.99 * (len(applied) - 1))]
    middle = applied[len(applied) // 2]
    figure = Figure(f"revocation, {name}: p99 of all nodes", share, "s", bound, f"median {middle:.2f}")
    return figure, applied


def change(name: str, what: str, trials: int, known: tuple[int, int]) -> list[Figure]:
    """Frames and kB that one failure costs the whole mesh, median; C{known}: of a simulation."""
    mesh = world(name, seed=4)
    random = Random(5)
    frames, sizes = [], []
    for _ in range(trials):
        mesh.frames.clear()
        mesh.bytes = 0
        if what == "link":
            one, other = random.choice(sorted(mesh.edges))
            mesh.cut(one, other)
        else:
            one = random.choice(sorted(mesh.nodes))
            neighbours = mesh.kill(one)
        mesh.run(SETTLED)
        frames.append(sum(mesh.frames.values()))
        sizes.append(mesh.bytes / 1000)
        if what == "link":
            mesh.connect(one, other)
        else:
            mesh.restart(one, neighbours)
        mesh.run(2 * SETTLED)
    head = f"{what} failure, {name}"
    return [
        Figure(f"{head}: control frames", statistics.median(frames), "", known[0] * TOLERANCE),
        Figure(f"{head}: kilobytes", statistics.median(sizes), "kB", known[1] * TOLERANCE),
    ]


def cold_start(name: str, seconds: float, megabytes: float) -> list[Figure]:
    """Nodes start with their first links, up within a second: until databases are equal and tell of all."""
    edges, roles = shape(name, seed=6)
    mesh, random = EngineMesh(seed=6), Random(6)
    for node in sorted({end for edge in edges for end in edge}):
        mesh.add(node, *roles(node))
    mesh.come_up(edges, random)
    mesh.run(1)
    while not (
        all(len(node.engine.neighbours(node.handle)) == len(node.links) for node in mesh)
        and len({node.engine.store.digest() for node in mesh}) == 1
    ):
        mesh.run(TICK)
        assert mesh.now() < 60, "the databases never agree"
    took = mesh.now()
    mesh.run(SETTLED)
    head = f"cold start, {name}"
    return [
        Figure(f"{head}: databases equal", took, "s", seconds * TOLERANCE),
        Figure(f"{head}: megabytes", mesh.bytes / 1e6, "MB", megabytes * TOLERANCE),
    ]


def spf(nodes: int, rounds: int) -> Figure:
    """One shortest-path tree over three links a node, CPU milliseconds."""
    graph = nx.gnm_random_graph(nodes, 3 * nodes, seed=1)
    random = Random(1)
    rows: dict[bytes, dict[bytes, int]] = {node.to_bytes(8, "big"): {} for node in graph}
    for one, other in graph.edges:
        cost = random.randint(96, 246)
        rows[one.to_bytes(8, "big")][other.to_bytes(8, "big")] = cost
        rows[other.to_bytes(8, "big")][one.to_bytes(8, "big")] = cost
    took = []
    for _ in range(rounds):
        begun = time.process_time()
        shortest_paths(rows, bytes(8), rows.keys())
        took.append((time.process_time() - begun) * 1000)
    return Figure(f"SPF, {nodes:,} nodes", statistics.median(took), "ms", None, f"best {min(took):.1f}")
