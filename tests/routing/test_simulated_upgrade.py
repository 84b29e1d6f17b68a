# SPDX-License-Identifier: MIT
"""A rolling upgrade: each relay in turn is drained and restarted while everybody talks to everybody."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import networkx as nx
import pytest
from routing.oracle import Visits, check_databases, check_paths, geometric, named

from gmesh.mesh.limits import DRAIN_TIME
from gmesh.routing.limits import SPACING_MAX, UP_STABLE
from gmesh.testing.engine_mesh import EngineMesh

PACE = 0.01
"""Seconds between two frames, each between two nodes drawn anew."""
UNDER_WAY = 0.04
"""Seconds that a frame spends on the slowest link: so much is lost with a node that dies, and no more."""
BACK = UP_STABLE + 1.0
"""Seconds after a restart until the node is a way for others again."""


def biconnected(graph: Any) -> Any:
    """What of it survives the loss of any one node."""
    return graph.subgraph(max(nx.biconnected_components(graph), key=len))


class Talk:
    """Frames between nodes that are to stay, and what becomes of each."""

    def __init__(self, mesh: EngineMesh, seed: int) -> None:
        self.mesh = mesh
        self.random = Random(seed)
        self.names = sorted(mesh.nodes)
        self.visits = Visits(mesh)
        self.sent = 0

    def run(self, seconds: float, but: str) -> None:
        """Everybody but one talks for so long."""
        names = [name for name in self.names if name != but]
        end = self.mesh.now() + seconds
        while self.mesh.now() < end:
            source, target = self.random.sample(names, 2)
            self.sent += 1
            assert self.mesh[source].send(target, b"%d" % self.sent), (source, target)
            self.mesh.run(PACE)

    def delivered(self) -> list[int]:
        """The numbers of what arrived, ascending."""
        return sorted(int(payload) for node in self.mesh for _, _, payload in node.delivered)


def each_in_turn(mesh: EngineMesh, leave: Callable[[str], list[str]], seed: int) -> Talk:
    """Every relay leaves, and is back before the next does."""
    talk = Talk(mesh, seed)
    for name in talk.names:
        neighbours = leave(name)
        talk.run(DRAIN_TIME + 0.2, but=name)
        mesh.restart(name, neighbours)
        talk.run(BACK, but=name)
    mesh.run(SPACING_MAX + 1)
    check_paths(mesh)
    check_databases(mesh)
    return talk


@pytest.mark.parametrize("shape", ["grid", "geometric"])
def test_a_rolling_upgrade_loses_nothing(shape: str) -> None:
    """Others have gone round a drained relay before it goes: every frame arrives, each once."""
    graph = nx.grid_2d_graph(4, 4) if shape == "grid" else biconnected(geometric(24, 7))
    mesh = EngineMesh(seed=7)
    mesh.build(named(graph))
    mesh.run(2)
    talk = each_in_turn(mesh, mesh.drain, seed=7)
    assert talk.delivered() == list(range(1, talk.sent + 1))
    assert talk.sent > 5_000
    mesh.stop()


def test_relays_that_die_lose_what_was_under_way() -> None:
    """The same without draining: next to nothing, for relays splice, but not nothing."""
    mesh = EngineMesh(seed=7)
    mesh.build(named(nx.grid_2d_graph(4, 4)))
    mesh.run(2)
    talk = each_in_turn(mesh, mesh.kill, seed=7)
    arrived = talk.delivered()
    assert len(arrived) == len(set(arrived))
    lost = talk.sent - len(arrived)
    assert 0 < lost <= len(talk.names) * UNDER_WAY / PACE, lost
    mesh.stop()
