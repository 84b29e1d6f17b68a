# SPDX-License-Identifier: MIT
"""A cloned image: two hosts with the keys of one node, against an honest restart."""

from __future__ import annotations

import pytest
from mesh.linkworld import Node, World
from twisted.logger import capturedLogs

from gmesh.mesh.limits import BOOTS_REMEMBERED, TWIN_MEMORY

HOUR = 3600.0


class Cloned:
    """An anchor, and two hosts that run from copies of one state directory, both of which dial it."""

    def __init__(self, seed: int) -> None:
        self.world = world = World(seed=seed)
        self.anchor = world.node("anchor", "anchor").listen()
        self.first = world.node("pump")
        self.second = Node(world, self.first.enrolled)
        self.start(self.first)
        world.run(30)

    def start(self, node: Node) -> None:
        node.dialler.set_targets([self.anchor.address])
        node.dialler.start()

    def holds(self, node: Node) -> bool:
        link = self.anchor.link(node)
        return link is not None and link.hello.boot_id == node.boot_id

    def links(self) -> int:
        return sum(event[0] == "up" for event in self.anchor.recorder.events)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in (2, 3))])
def test_c16_d8_the_older_of_two_hosts_keeps_its_link_and_the_newer_backs_off(seed: int) -> None:
    cloned = Cloned(seed)
    with capturedLogs() as events:
        cloned.start(cloned.second)
        cloned.world.run(120)
        before = cloned.links()
        assert before <= 4, "one turn shows that there are two"
        cloned.world.run(24 * HOUR)
    # A session is replaced by a newer one now and then, whoever it is with.
    assert cloned.links() - before <= 24
    assert cloned.holds(cloned.first)
    assert cloned.second.link(cloned.anchor) is None
    assert cloned.anchor.neighbours.twins.names() == ["pump"]
    assert cloned.second.neighbours.twins.here
    assert cloned.second.counters["twin-here"] == cloned.anchor.counters["twin-refused"]
    assert cloned.anchor.counters["twin-refused"] <= 24 * 3600 / 300 + 2
    said = [event for event in events if "two hosts" in event["log_format"]]
    assert len(said) == 1 and cloned.second.host in said[0]["where"] and cloned.first.host in said[0]["where"]
    own = [event for event in events if "another host runs" in event["log_format"]]
    assert len(own) == 1
    assert len(events) < 4000, "lines a day at both ends together"
    cloned.world.finish()


def test_c16_once_the_older_is_stopped_the_newer_gets_in() -> None:
    cloned = Cloned(7)
    cloned.start(cloned.second)
    cloned.world.run(600)
    assert cloned.holds(cloned.first)
    cloned.first.stop()
    cloned.world.run(700)
    assert cloned.holds(cloned.second)
    cloned.world.run(TWIN_MEMORY + 1)
    assert cloned.anchor.neighbours.twins.names() == []
    cloned.world.finish()


def test_c16_an_honest_restart_wins_at_once_also_the_hundredth() -> None:
    """Its old link looks alive, for nobody said that it ended."""
    cloned = Cloned(3)
    world, node = cloned.world, cloned.first
    for _ in range(100):
        node.dialler.stop()
        for connection in world.network.open_connections():
            connection.silence()
        node = Node(world, node.enrolled)
        cloned.start(node)
        world.run(2)
        assert cloned.holds(node)
    assert cloned.anchor.neighbours.twins.names() == []
    (remembered,) = cloned.anchor.neighbours.twins._nodes.values()
    assert len(remembered.runs) <= BOOTS_REMEMBERED
    world.run(60)
    world.finish()
