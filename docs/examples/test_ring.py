# SPDX-License-Identifier: MIT
"""Four relays in a ring while the world around them fails; and a relay that passes nothing on."""

import pytest

from gmesh.errors import SendRefused
from gmesh.testing.transport import Wire


def ring(mesh, *names):
    """Each dials the one before; the first dials the last."""
    for index, name in enumerate(names):
        mesh.add(name, "relay", peers=[names[index - 1]] if index else [])
    mesh.redial(names[0], names[-1])
    mesh.start()
    mesh.run_until(lambda: all(node.reaches(*(set(names) - {node.name})) for node in mesh))
    mesh.run(10)
    return mesh


@pytest.fixture
def mesh(memory_mesh):
    """Wires of 20 ms that hold 16 KiB."""
    return ring(memory_mesh(wire=Wire(delay=0.02, capacity=16 * 1024)), "a", "b", "c", "d")


def test_a_partition(mesh):
    received = []
    mesh["c"].runtime.datagrams.register("log", received.append)
    mesh.partition({"a", "b"}, {"c", "d"})
    with pytest.raises(SendRefused):
        mesh.result(mesh["a"].runtime.datagrams.send("c", "log", b"lost", timeout=5))
    mesh.heal()
    mesh.run_until(lambda: mesh["a"].reaches("c"), within=120)
    mesh.result(mesh["a"].runtime.datagrams.send("c", "log", b"found"))
    assert [(message.source_name, message.data) for message in received] == [("a", b"found")]


@pytest.mark.parametrize("keep", [True, False])
def test_a_power_cut(mesh, keep):
    way = mesh["a"].path("c")
    mesh[way[1]].kill(silently=True)
    assert mesh.run_until(lambda: mesh["a"].path("c") not in (None, way)) < 16
    mesh[way[1]].restart(keep)
    mesh.run_until(lambda: len(mesh[way[1]].link_names) == 2, within=120)


def test_a_wrong_clock(mesh):
    mesh["b"].skew = 3600.0
    mesh.run(60)
    mesh["b"].skew = 0.0
    mesh.run(30)
    assert len({node.runtime.engine.store.digest() for node in mesh}) == 1


def test_a_slow_neighbour(mesh):
    mesh.slow("a", "b", rate=1_000)
    sent = mesh["a"].runtime.datagrams.send("b", "log", bytes(8_000), timeout=3)
    with pytest.raises(SendRefused, match="in time"):
        mesh.result(sent)


def test_the_same_again(memory_mesh):
    traces = [ring(memory_mesh(), "a", "b", "c").trace for _ in range(2)]
    assert traces[0] == traces[1]


def test_a_liar_on_the_way(engine_mesh):
    mesh = engine_mesh()
    mesh.build([("a", "liar"), ("liar", "z"), ("a", "b"), ("b", "c"), ("c", "z")])
    mesh["liar"].tampers = lambda kind, frame, to: None
    assert mesh["a"].path("z") == ["a", "liar", "z"]
    mesh["a"].send("z", b"lost")
    mesh.run(1)
    assert mesh["z"].delivered == []
    mesh.cut("a", "liar")
    mesh.run(1)
    mesh["a"].send("z", b"found")
    mesh.run(1)
    assert [payload for _, _, payload in mesh["z"].delivered] == [b"found"]
