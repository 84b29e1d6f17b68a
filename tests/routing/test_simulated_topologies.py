# SPDX-License-Identifier: MIT
"""Every topology, many seeds: after each event paths are networkx's, databases equal, frames never loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import networkx as nx
import pytest
from routing.oracle import (
    Visits,
    check_databases,
    check_numbers,
    check_paths,
    geometric,
    named,
    real,
    two_cliques,
)

from gmesh.mesh.limits import HOUSEKEEPING_INTERVAL
from gmesh.routing.limits import MAX_RECORD_LINKS, SPACING_MAX
from gmesh.testing.engine_mesh import EngineMesh

TOPOLOGIES: dict[str, Callable[[int], Any]] = {
    "line": lambda seed: nx.path_graph(50),
    "ring": lambda seed: nx.cycle_graph(80),
    "grid": lambda seed: nx.grid_2d_graph(7, 7),
    "star": lambda seed: nx.star_graph(30),
    "complete": lambda seed: nx.complete_graph(20),
    "geometric": lambda seed: geometric(100, seed),
    "barabasi-albert": lambda seed: nx.barabasi_albert_graph(100, 3, seed=seed),
    "two-cliques": lambda seed: two_cliques(8),
    "sndlib": lambda seed: real("sndlib/germany50"),
    "topozoo": lambda seed: real("topozoo/TataNld"),
    "gabriel": lambda seed: real("gabriel/100/0"),
    "caida": lambda seed: real("caida/2024-08/9829"),
}
QUIET = 4.0
"""Seconds after which every database and every path has followed: flood, spacing, a flapping link's hold."""
SEEDS = (2, pytest.param(40, marks=pytest.mark.soak))
"""How many seeds of N = 200, one of each kind at least."""


def roles_of(edges: list[tuple[str, str]]) -> Callable[[str], tuple[str, ...]]:
    """Every tenth node is a client; a hub with more links than fit into one record is an anchor."""
    degrees = Counter(name for edge in edges for name in edge)

    def roles(name: str) -> tuple[str, ...]:
        if degrees[name] > MAX_RECORD_LINKS:
            return ("anchor",)
        return ("client",) if name.endswith("7") else ("relay",)

    return roles


class Storm:
    """Links and nodes fall and come back while frames travel; what must always hold is checked as it runs."""

    def __init__(self, edges: list[tuple[str, str]], seed: int, **options: Any) -> None:
        self.random = Random(seed)
        self.mesh = EngineMesh(seed, **options)
        self.mesh.build(edges, roles=roles_of(edges))
        self.visits = Visits(self.mesh)
        self.numbers: dict[tuple[str, bytes, int], int] = {}
        self.down: list[tuple[str, str]] = []
        self.dead: dict[str, list[str]] = {}

    def event(self) -> None:
        """One thing goes wrong, or right again."""
        mesh, choice = self.mesh, self.random.random()
        alive = sorted(node.name for node in mesh if node.running)
        if choice < 0.4 and mesh.edges:
            edge = self.random.choice(sorted(mesh.edges))
            self.down.append(edge)
            mesh.cut(*edge)
        elif choice < 0.7 and self.down:
            mesh.connect(*self.down.pop(self.random.randrange(len(self.down))))
        elif choice < 0.85 and len(alive) > 3:
            name = self.random.choice(alive)
            self.dead[name] = mesh.kill(name)
        elif self.dead:
            name = self.random.choice(sorted(self.dead))
            mesh.restart(name, self.dead.pop(name), keep=self.random.random() < 0.5)

    def traffic(self, frames: int) -> None:
        """Frames between nodes that run, whatever they believe."""
        alive = sorted(node.name for node in self.mesh if node.running)
        for _ in range(frames):
            source, target = self.random.sample(alive, 2)
            self.mesh[source].send(target, b"x")

    def run(self, events: int) -> None:
        """Events in quick succession with traffic between, then quiet, then the oracle."""
        for _ in range(events):
            self.event()
            self.traffic(10)
            self.mesh.run(self.random.uniform(0.0, 0.3))
            self.traffic(10)
        self.settle()

    def settle(self) -> None:
        """Let it become quiet and check all that must hold then."""
        self.mesh.run(QUIET)
        check_numbers(self.mesh, self.numbers)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_paths_follow_every_failure(name: str) -> None:
    """Invariants 1, 2, 3 and 8 on one topology: after single failures and after a storm of them."""
    storm = Storm(named(TOPOLOGIES[name](1)), seed=1)
    mesh = storm.mesh
    check_paths(mesh)
    check_databases(mesh)
    for _ in range(3):
        storm.event()
        storm.traffic(20)
        storm.settle()
    storm.run(6)
    mesh.run(12)
    check_databases(mesh)
    assert check_paths(mesh) > 0
    assert storm.visits.frames > 0
    mesh.stop()


@pytest.mark.parametrize("seeds", SEEDS)
def test_two_hundred_nodes_over_many_seeds(seeds: int) -> None:
    """N = 200, geometric and scale-free in turn, a new seed each."""
    for seed in range(100, 100 + seeds):
        graph = geometric(200, seed) if seed % 2 else nx.barabasi_albert_graph(200, 3, seed=seed)
        storm = Storm(named(graph), seed)
        storm.run(8)
        storm.mesh.run(8)
        check_databases(storm.mesh)
        sources = storm.random.sample(sorted(node.name for node in storm.mesh if node.running), 30)
        check_paths(storm.mesh, sources)
        storm.mesh.stop()


def test_a_thousand_nodes() -> None:
    """N = 1,000: a link and a node fall while frames travel; all databases follow, and the paths of many."""
    storm = Storm(named(nx.barabasi_albert_graph(1000, 2, seed=5)), seed=5)
    mesh = storm.mesh
    mesh.cut(*storm.random.choice(sorted(mesh.edges)))
    storm.traffic(200)
    mesh.run(0.05)
    mesh.kill("n0500")
    storm.traffic(200)
    mesh.run(QUIET)
    check_databases(mesh)
    sources = storm.random.sample(sorted(node.name for node in mesh if node.running), 12)
    assert check_paths(mesh, sources) == 12 * 999
    assert storm.visits.frames > 400
    mesh.stop()


def test_a_partition_heals() -> None:
    """Each half routes alone; then what the border says moves, over each link thrice at most, and no more."""
    storm = Storm(named(nx.grid_2d_graph(6, 6)), seed=3)
    mesh = storm.mesh
    names = sorted(node.name for node in mesh)
    mesh.partition(names[:18], names[18:])
    storm.settle()
    check_paths(mesh)
    check_databases(mesh)
    assert mesh["n0000"].path("n0035") is None
    mesh.run(30)
    before = mesh.bytes
    mesh.heal()
    storm.settle()
    mesh.run(QUIET)
    check_paths(mesh)
    check_databases(mesh)
    border, copies = 12, 2 * len(mesh.edges)
    assert mesh.bytes - before < 3 * border * copies * 220, mesh.bytes - before
    mesh.stop()


def test_a_cold_start_converges() -> None:
    """Forty nodes that know nothing but their neighbours, within seconds, at a bounded price."""
    mesh = EngineMesh(seed=2)
    mesh.build(named(geometric(40, 2, 6.0)), converged=False)
    mesh.run(QUIET)
    check_databases(mesh)
    check_paths(mesh)
    mesh.stop()


def test_a_run_repeats() -> None:
    """Invariant 9: the same seed and the same deeds have the same trace, another seed has another."""
    traces = []
    for seed in (4, 4, 5):
        storm = Storm(named(nx.cycle_graph(12)), seed)
        storm.run(10)
        traces.append((storm.mesh.trace, storm.mesh.events))
        storm.mesh.stop()
    assert traces[0] == traces[1] != traces[2]


def test_alternatives_share_no_relay() -> None:
    """Around a ring there are two ways to the far side; to a neighbour the link itself."""
    mesh = EngineMesh(seed=1)
    mesh.build(named(nx.cycle_graph(6)))
    node = mesh["n0000"]
    found = node.engine.alternatives(mesh["n0003"].handle, mesh.now())
    assert sorted(len(path) - 1 for path, _ in found) == [3, 3]
    assert not set(found[0][0][1:-1]) & set(found[1][0][1:-1])
    assert found[0][1] <= found[1][1]
    assert len(node.engine.alternatives(mesh["n0001"].handle, mesh.now())) == 1
    mesh.stop()


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_clock_that_was_wrong_hides_nothing_for_long(step: float) -> None:
    """What was said and refused by a clock an hour off is said and asked for again once it is right."""
    mesh = EngineMesh(seed=6)
    mesh.build(named(nx.grid_2d_graph(4, 4)))
    mesh.run(QUIET)
    node = mesh["n0005"]
    node.skew = step
    mesh.run(20)
    mesh.cut("n0005", "n0006")
    mesh.cut("n0014", "n0015")
    mesh.run(20)
    with pytest.raises(AssertionError):
        check_databases(mesh)
    node.skew = 0.0
    mesh.run(HOUSEKEEPING_INTERVAL + SPACING_MAX + 1)
    check_databases(mesh)
    check_paths(mesh)
    mesh.stop()
