# SPDX-License-Identifier: MIT
"""Storms of dials between whole nodes: everybody at once, and a fleet whose only anchor was away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import combinations
from math import log2

import pytest

from gmesh.mesh.limits import DIAL_BACKOFF_CAP, DIAL_BACKOFF_FIRST
from gmesh.routing.limits import SPACING_MAX
from gmesh.testing.mesh import MemoryMesh
from gmesh.testing.transport import Wire

pytest_plugins = ["gmesh.testing.pytest_plugin"]
AWAY = 90.0


class Dials:
    """Every attempt to connect: from where, and in which second."""

    def __init__(self, mesh: MemoryMesh) -> None:
        self.by_host: Counter[str] = Counter()
        self.by_second: Counter[int] = Counter()
        self.mesh = mesh
        wires = mesh.network.wire_between

        def noted(source: str, target: str) -> Wire:
            self.by_host[source] += 1
            self.by_second[int(mesh.now())] += 1
            return wires(source, target)

        mesh.network.wire_between = noted


@pytest.mark.parametrize("gmesh_seed", range(3))
def test_everybody_dials_everybody(memory_mesh: Callable[..., MemoryMesh]) -> None:
    """Both ends of every pair dial in the same instant, over unequal wires: one link a pair, and it stays."""
    mesh = memory_mesh()
    mesh.network.wire_between = lambda source, target: Wire(delay=mesh.random.uniform(0.001, 0.2))
    names = [f"n{index}" for index in range(9)]
    for name in names:
        mesh.add(name, "relay")
    for node in mesh:
        node.dial([other.address for other in mesh if other is not node])
    mesh.start()
    pairs = list(combinations(names, 2))
    mesh.run_until(lambda: all(len(node.link_names) == len(names) - 1 for node in mesh), within=30)
    mesh.run(30)
    assert all(node.link_names == [name for name in names if name != node.name] for node in mesh)
    assert len(mesh.network.open_connections()) == len(pairs)
    held = [node.link(other) for node in mesh for other in node.link_names]
    mesh.run(60)
    assert held == [node.link(other) for node in mesh for other in node.link_names]
    assert len({node.runtime.engine.store.digest() for node in mesh}) == 1


@pytest.mark.parametrize("silently", [False, True])
def test_a_fleet_finds_its_anchor_again(memory_mesh: Callable[..., MemoryMesh], silently: bool) -> None:
    """Forty clients dial a dead anchor ever more rarely, not in step, and all are linked when it is back."""
    mesh = memory_mesh()
    mesh.add("anchor", "anchor")
    clients = [f"c{index:02}" for index in range(40)]
    for name in clients:
        mesh.add(name, "client", peers=["anchor"])
    mesh.start()
    anchor = mesh["anchor"]
    mesh.run_until(lambda: anchor.link_names == clients)
    mesh.run(70)
    dials = Dials(mesh)
    anchor.kill(silently)
    mesh.run(AWAY)
    attempts = 2 * log2(AWAY / DIAL_BACKOFF_FIRST) + 2
    assert set(dials.by_host) == {mesh[name].host for name in clients}
    assert max(dials.by_host.values()) <= attempts, dials.by_host.most_common(3)
    late = [count for second, count in dials.by_second.items() if second > mesh.now() - AWAY / 2]
    assert max(late) < len(clients) / 3
    anchor.restart()
    took = mesh.run_until(lambda: anchor.link_names == clients, within=2 * DIAL_BACKOFF_CAP)
    assert took <= DIAL_BACKOFF_CAP + 2
    mesh.run_until(lambda: all(mesh[name].reaches("anchor") for name in clients), within=SPACING_MAX + 1)
    assert len(mesh.network.open_connections()) == len(clients)
