# SPDX-License-Identifier: MIT
"""All that goes wrong in a fleet, at once, for virtual hours: no loop, always bounded, right in the end."""

from __future__ import annotations

import networkx as nx
import pytest
from routing.chaos import TOLD_WITHIN, Chaos
from routing.oracle import bounded, check_databases, check_paths, named

from gmesh.testing.engine_mesh import EngineMesh

DEGREE = 6
NODES = 24
LOOK = 20.0
CALM = 30.0


def rage(seed: int, seconds: float, haste: float) -> Chaos:
    """So long a storm, looked at every twenty seconds; then quiet, and every path is networkx's."""
    mesh = EngineMesh(seed)
    graph = nx.random_regular_graph(DEGREE, NODES, seed=seed)
    mesh.build(named(graph), lambda name: ("client",) if name.endswith("7") else ("relay",))
    chaos = Chaos(mesh, seed, haste)
    while mesh.now() < seconds:
        mesh.run(LOOK)
        chaos.look()
        for node in mesh:
            bounded(node, len(mesh.nodes), DEGREE + len(chaos.revoked))
            chaos.arrived += len(node.delivered)
            node.delivered.clear()
            node.undelivered.clear()
    chaos.calm(CALM)
    check_databases(mesh)
    check_paths(mesh, [node.name for node in chaos.running() if node.name not in chaos.revoked])
    mesh.stop()
    return chaos


@pytest.mark.parametrize(
    ("seed", "seconds", "haste"),
    [
        (1, 140.0, 5.0),
        pytest.param(2, 7200.0, 1.0, marks=pytest.mark.soak),
        pytest.param(3, 1800.0, 5.0, marks=pytest.mark.soak),
    ],
)
def test_a_fleet_survives_chaos(seed: int, seconds: float, haste: float) -> None:
    """Cuts, silence, deaths, upgrades, partitions, wrong clocks, revocations: most frames arrive even so."""
    chaos = rage(seed, seconds, haste)
    expected = {"cut", "silent", "killed", "drained", "parted", "clock", "revoked"}
    assert set(chaos.happened) == expected, chaos.happened
    assert chaos.arrived > 0.7 * chaos.sent, (chaos.arrived, chaos.sent)


def test_nobody_is_revoked_twice() -> None:
    """Each time another member goes, and another node comes in its place."""
    mesh = EngineMesh(seed=4)
    mesh.build(named(nx.complete_graph(4)))
    chaos = Chaos(mesh, seed=4)
    for _ in range(12):
        chaos.revoke()
        mesh.run(TOLD_WITHIN)
    chaos.calm(CALM)
    assert (len(chaos.revoked), len(mesh.nodes)) == (12, 4 + 12)
    with pytest.raises(ValueError, match="already"):
        mesh.add("n0000")
    mesh.stop()
