# SPDX-License-Identifier: MIT
"""Whole nodes with real Noise while links, hosts, clocks and wires fail around them, and messages pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import networkx as nx
import pytest
from twisted.internet.defer import Deferred

from gmesh.endtoend.datagrams import Delivered
from gmesh.endtoend.services import Message
from gmesh.errors import SendRefused
from gmesh.mesh.limits import CONTROL_QUEUE_BYTES, DATA_QUEUE_BYTES, DIAL_BACKOFF_CAP
from gmesh.routing.limits import SPACING_MAX
from gmesh.testing.mesh import MemoryMesh
from gmesh.testing.transport import Wire

pytest_plugins = ["gmesh.testing.pytest_plugin"]
LEEWAY = 290.0
"""A clock may be so wrong that its owner is just still believed."""
SLOW = 20_000.0


class Fleet:
    """
    Relays of degree four, and what happens to them.

    @ivar acknowledged: (to whom, what) the senders were told has arrived.
    @ivar arrived: how often it did.
    """

    def __init__(self, mesh: MemoryMesh, size: int, seed: int) -> None:
        self.mesh = mesh
        self.random = Random(seed)
        self.acknowledged: set[tuple[str, bytes]] = set()
        self.arrived: Counter[tuple[str, bytes]] = Counter()
        self.refused = self.sent = 0
        self.dead: list[str] = []
        self.names = [f"n{index:02}" for index in range(size)]
        graph = nx.random_regular_graph(4, size, seed=seed)
        for name in self.names:
            mesh.add(name, "relay")
        for index, name in enumerate(self.names):
            mesh.redial(name, *(self.names[other] for other in graph[index]))
        mesh.start()
        for name in self.names:
            self.listen(name)
        mesh.run_until(self.whole, within=60)

    def whole(self) -> bool:
        """Whether everybody reaches everybody."""
        return all(node.reaches(*(name for name in self.names if name != node.name)) for node in self.mesh)

    def listen(self, name: str) -> None:
        """Count what arrives at a node that has just started."""

        def take(message: Message) -> None:
            self.arrived[name, message.data] += 1

        self.mesh[name].runtime.datagrams.register("log", take)

    def talk(self) -> None:
        """One message between two that run."""
        source, target = self.random.sample([name for name in self.names if name not in self.dead], 2)
        self.sent += 1
        data = b"%d" % self.sent
        sent: Deferred[Delivered] = self.mesh[source].runtime.datagrams.send(
            target, "log", data, timeout=30.0
        )
        sent.addCallbacks(lambda _: self.acknowledged.add((target, data)), self._refused)

    def _refused(self, failure: object) -> None:
        failure.trap(SendRefused)  # type: ignore[attr-defined]  # a Failure
        self.refused += 1

    def event(self) -> None:
        """One thing goes wrong, or all that is wrong goes right."""
        mesh, random = self.mesh, self.random
        name = random.choice([name for name in self.names if name not in self.dead])
        links = mesh[name].link_names
        other = random.choice(links) if links else None
        choice = random.randrange(8)
        if choice == 0 and len(self.dead) < 3:
            mesh[name].kill(silently=random.random() < 0.5)
            self.dead.append(name)
        elif choice == 1 and self.dead:
            back = self.dead.pop(0)
            mesh[back].restart(keep=random.random() < 0.5)
            self.listen(back)
        elif choice == 2:
            mesh[name].skew = random.choice((-LEEWAY, LEEWAY, 0.0))
        elif choice == 3 and not mesh.network.blocked:
            half = random.sample(self.names, len(self.names) // 2)
            mesh.partition(half, [each for each in self.names if each not in half])
        elif choice == 4:
            mesh.heal()
        elif other is not None and choice == 5:
            mesh.silence(name, other, both=random.random() < 0.5)
        elif other is not None and choice == 6:
            mesh.slow(name, other, random.choice((SLOW, None)))
        elif other is not None:
            mesh.cut(name, other)

    def look(self) -> None:
        """Bounds and exactly-once hold at every moment."""
        assert max(self.arrived.values(), default=0) <= 1
        for node in self.mesh:
            for link in node.runtime.links():
                assert link.backlog <= DATA_QUEUE_BYTES and link.control_backlog <= CONTROL_QUEUE_BYTES
            assert len(node.link_names) == len(set(node.link_names))

    def calm(self) -> None:
        """All is put right; within the longest back-off all are linked, routed and of one mind."""
        mesh = self.mesh
        mesh.heal()
        for name in self.dead:
            mesh[name].restart()
        self.dead.clear()
        for node in mesh:
            node.skew = 0.0
            for other in node.link_names:
                mesh.slow(node.name, other, None)
        mesh.run_until(self.whole, within=DIAL_BACKOFF_CAP + 30)
        mesh.run(DIAL_BACKOFF_CAP + 2 * SPACING_MAX)
        assert len({node.runtime.engine.store.digest() for node in mesh}) == 1
        pairs = {frozenset((node.name, other)) for node in mesh for other in node.link_names}
        assert len(mesh.network.open_connections()) == len(pairs)


@pytest.mark.parametrize(
    ("size", "events", "gmesh_seed"), [(10, 40, 1), pytest.param(24, 400, 2, marks=pytest.mark.soak)]
)
def test_messages_pass_through_chaos(
    memory_mesh: Callable[..., MemoryMesh], size: int, events: int, gmesh_seed: int
) -> None:
    """What was acknowledged arrived, nothing arrived twice, nothing grew, and in the end all is well."""
    fleet = Fleet(memory_mesh(wire=Wire(capacity=32 * 1024)), size, gmesh_seed)
    for _ in range(events):
        fleet.event()
        for _ in range(5):
            fleet.talk()
            fleet.mesh.run(fleet.random.uniform(0, 1))
        fleet.look()
    fleet.calm()
    fleet.look()
    fleet.talk()
    fleet.mesh.run(1)
    assert fleet.acknowledged <= set(fleet.arrived)
    assert len(fleet.acknowledged) + fleet.refused == fleet.sent
    assert len(fleet.acknowledged) >= 0.6 * fleet.sent
