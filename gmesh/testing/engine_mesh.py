# SPDX-License-Identifier: MIT
"""
A thousand nodes in one process: real routing, flooding, gossip and forwarding over queues for links.

What is left out is what costs CPU and decides no route: Noise, Ed25519 of records, sockets.  A mesh
may begin converged, so that one event at N = 1,000 costs what that event costs::

    mesh = EngineMesh(seed=7)
    mesh.build([("a", "b"), ("b", "c"), ("c", "a")])
    mesh.cut("a", "b")
    mesh.run_until(lambda: mesh["a"].path("b") == ["a", "c", "b"])

Tests: C{tests/routing/test_simulated_topologies.py}, C{tests/routing/test_simulated_churn.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from random import Random

from gmesh.mesh.limits import WAN, KeepaliveProfile
from gmesh.routing.engine import RouteEngine
from gmesh.routing.metric import rtt_cost
from gmesh.testing.engine_node import Edge, EngineNode, EngineWorld, QueueLink
from gmesh.trust.documents import Crl, Document

__all__ = ["EngineMesh"]

YEAR = 365 * 86400
CONVERGED = 1.0
"""Seconds a mesh that begins converged is old."""


class EngineMesh(EngineWorld):
    """
    Nodes and the true links between them.

    @param delays: seconds one way, drawn for each link; processing included.
    """

    def __init__(
        self, seed: int = 0, delays: tuple[float, float] = (0.002, 0.040), profile: KeepaliveProfile = WAN
    ) -> None:
        super().__init__(seed)
        self.profile = profile
        self._delays = delays
        self._fixed: dict[Edge, float] = {}
        self._apart: list[Edge] = []

    # -- making

    def add(self, name: str, *roles: str) -> EngineNode:
        """
        Enrol a node: a relay if nothing else is said.

        @raise ValueError: if there is one of this name, whose links would be left over.
        """
        if name in self.nodes:
            raise ValueError(f"there is a node {name} already")
        node = EngineNode(self, self.issuer.enrol(name, *(roles or ("relay",)), lifetime=YEAR))
        self.nodes[name] = node
        self.directory[node.handle, node.peer.serial] = node.peer
        self._names[node.handle] = name
        return node

    def build(
        self,
        edges: Iterable[Edge],
        roles: Callable[[str], Collection[str]] = lambda name: ("relay",),
        converged: bool = True,
    ) -> None:
        """Nodes and links of this shape, started; C{converged}: everybody knows everything already."""
        wanted = sorted({(min(edge), max(edge)) for edge in edges})
        for name in sorted({name for edge in wanted for name in edge}):
            self.add(name, *roles(name))
        self.clock.rightNow = CONVERGED
        if converged:
            self._converge(wanted)
        for node in self:
            node.start()
        for one, other in wanted:
            self.connect(one, other)

    def _converge(self, edges: Iterable[Edge]) -> None:
        """
        Bring every database to where flooding would have brought it.

        The first node judges all records; the others take over what it believes and has computed.
        """
        for one, other in edges:
            self[one].engine.link_up(self[other].handle, self.cost(one, other), 0.0)
            self[other].engine.link_up(self[one].handle, self.cost(one, other), 0.0)
        now, wall = self.now(), self.wall()
        made = {node.name: node.engine.originate(now, wall) for node in self}
        first = next(iter(self)).engine
        for node in self:
            for _, data in made[node.name]:
                first.offer(data, now, wall)
        for _, entry in first.store.entries():
            entry.bucket = None
        for node in self:
            node.sequence = node.engine.sequence
            if node.engine is not first:
                _adopt(node.engine, first, now)

    # -- what happens

    def connect(self, one: str, other: str, delay: float | None = None) -> None:
        """A link comes up."""
        edge = (min(one, other), max(one, other))
        if edge in self.edges or not (self[one].running and self[other].running):
            return
        if delay is not None:
            self._fixed[edge] = delay
        self.edges.add(edge)
        here, there = QueueLink.pair(self[one], self[other], self._delay(edge))
        self[one].links[other], self[other].links[one] = here, there
        here.up = there.up = True
        here.go_up()
        there.go_up()

    def come_up(self, edges: Iterable[Edge], random: Random, within: float = 1.0) -> None:
        """Links come up, each some time C{within} so many seconds; a node starts with its first one."""

        def begin(one: str, other: str) -> None:
            for each in (one, other):
                if not self[each].running:
                    self[each].start()
            self.connect(one, other)

        for edge in edges:
            self.clock.callLater(random.uniform(0, within), begin, *edge)

    def _delay(self, edge: Edge) -> float:
        if edge not in self._fixed:
            self._fixed[edge] = self.random.uniform(*self._delays)
        return self._fixed[edge]

    def cost(self, one: str, other: str) -> int:
        """What a link between these costs: the metric of its round trip."""
        return rtt_cost(2 * self._delay((min(one, other), max(one, other))))

    def link(self, one: str, other: str) -> QueueLink:
        """The end of a link at C{one}."""
        return self[one].links[other]

    def cut(self, one: str, other: str) -> None:
        """A link falls, seen by both ends at once."""
        self.link(one, other).fall()

    def silence(self, one: str, other: str, both: bool = True) -> None:
        """A link goes dead without a word (half-open: only from C{one}); the profile says for how long."""
        self.edges.discard((min(one, other), max(one, other)))
        self.link(one, other).deafen(self.profile.dead_after)
        if both:
            self.link(other, one).deafen(self.profile.dead_after)

    def partition(self, *groups: Collection[str]) -> None:
        """Cut every link between nodes of different groups."""
        where = {name: index for index, group in enumerate(groups) for name in group}
        for one, other in sorted(self.edges):
            if where.get(one) != where.get(other):
                self._apart.append((one, other))
                self.cut(one, other)

    def heal(self) -> None:
        """Put back what L{partition} cut."""
        apart, self._apart = self._apart, []
        for one, other in apart:
            self.connect(one, other)

    def kill(self, name: str) -> list[str]:
        """A node is gone without a word; its neighbours notice at once. @return: who they were."""
        neighbours = sorted(self[name].links)
        for other in neighbours:
            self.cut(name, other)
        self[name].stop()
        return neighbours

    def drain(self, name: str) -> list[str]:
        """A node asks to be routed around and goes, as on SIGTERM. @return: who its neighbours were."""
        neighbours = sorted(self[name].links)
        self[name].updates.drain().addCallback(lambda _: self.kill(name))
        return neighbours

    def restart(self, name: str, neighbours: Iterable[str], keep: bool = True) -> None:
        """It begins again, with or without what it had persisted, and is linked to these."""
        node = self[name]
        if not keep:
            node.sequence = 0
        node.build()
        node.start()
        for other in neighbours:
            self.connect(name, other)

    def revoke(self, name: str, *told: str) -> Document[Crl]:
        """The authority revokes a node; C{told} hear of it first. Their links to it end with the CRL."""
        crl = self.issuer.revoke(self[name].enrolled)
        for each in told:
            self[each].trust.offer(crl, self.wall())
        return crl

    def stop(self) -> None:
        """Stop every node; nothing may be left on the clock."""
        for node in self:
            for link in list(node.links.values()):
                link.fall("stop")
            node.stop()
        self.run(1)
        assert self.clock.getDelayedCalls() == []


def _adopt(engine: RouteEngine, other: RouteEngine, now: float) -> None:
    """Believe and have computed what another engine of the same network does."""
    engine.database.adopt(other.database)
    engine._graph.adopt(other._graph)
    engine._paths.invalidate(now)
