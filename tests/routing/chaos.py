# SPDX-License-Identifier: MIT
"""
Everything that goes wrong in a fleet, all at once, for virtual hours, by the seed.

Links fail and return, one in ten of them silently; nodes die and come back with and without what they
stored, or are drained; the mesh is parted; clocks are an hour off; relays are revoked and replaced.
Tests look at what must hold on the way, and call L{Chaos.calm} before they look at the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from routing.oracle import Visits, check_numbers
from twisted.internet.interfaces import IDelayedCall

from gmesh.mesh.limits import DRAIN_TIME
from gmesh.testing.engine_mesh import EngineMesh
from gmesh.testing.engine_node import EngineNode

LINK_LIFE = 60.0
LINK_GAP = 10.0
SILENT = 0.1
NODE_LIFE = 20.0
NODE_GAP = 10.0
UPGRADE_EVERY = 60.0
PARTITION_EVERY = 240.0
PARTITION_FOR = 30.0
CLOCK_EVERY = 180.0
CLOCK_FOR = 40.0
REVOKE_EVERY = 300.0
TOLD_WITHIN = 2.0
"""Seconds in which everybody who can be reached has a revocation: a link that fell silent delays it."""
TRAFFIC_EVERY = 0.1


class Chaos:
    """
    A mesh, and what happens to it.

    @param haste: how much more often than that all but the links fail.
    @ivar happened: what, how often.
    @ivar sent: frames that set out.
    @ivar arrived: of these, as far as somebody has looked.
    """

    def __init__(self, mesh: EngineMesh, seed: int, haste: float = 1.0) -> None:
        self.mesh = mesh
        self.random = Random(seed)
        self.visits = Visits(mesh)
        self.happened: Counter[str] = Counter()
        self.sent = self.arrived = 0
        self.numbers: dict[tuple[str, bytes, int], int] = {}
        self.wanted = sorted(mesh.edges)
        self.failed: set[tuple[str, str]] = set()
        self.gone: set[str] = set()
        self.parted: set[str] = set()
        self.revoked: set[str] = set()
        self._calls: list[IDelayedCall] = []
        for edge in self.wanted:
            self._later(LINK_LIFE, self._link_fails, edge)
        for period, event in (
            (NODE_LIFE, self._node_dies),
            (UPGRADE_EVERY, self._upgrade),
            (PARTITION_EVERY, self._part),
            (CLOCK_EVERY, self._clock_steps),
            (REVOKE_EVERY, self.revoke),
        ):
            self._every(period / haste, event)
        self._every(TRAFFIC_EVERY, self._talk)

    def calm(self, seconds: float) -> None:
        """No more of it: everything that is left is put right, and so many seconds pass."""
        for call in self._calls:
            if call.active():
                call.cancel()
        self.parted.clear()
        self.failed.clear()
        for node in self.mesh:
            node.skew = 0.0
        self.mesh.run(self.mesh.profile.dead_after)
        for name in sorted(self.gone):
            self._return(name)
        self._link_up()
        self.mesh.run(seconds)

    # -- when

    def _every(self, period: float, event: Callable[[], None]) -> None:
        def happen() -> None:
            event()
            self._after(period * self.random.uniform(0.5, 1.5), happen)

        self._after(period * self.random.uniform(0.5, 1.5), happen)

    def _later(self, mean: float, event: Callable[..., None], *arguments: Any) -> None:
        self._after(self.random.expovariate(1 / mean), event, *arguments)

    def _after(self, seconds: float, event: Callable[..., None], *arguments: Any) -> None:
        self._calls = [call for call in self._calls if call.active()]
        self._calls.append(self.mesh.clock.callLater(seconds, event, *arguments))

    # -- who and which

    def running(self) -> list[EngineNode]:
        """Nodes that run, by name."""
        return sorted((node for node in self.mesh if node.running), key=lambda node: node.name)

    def _link_up(self, *names: str) -> None:
        """Make the links that nothing stands against (of these nodes, if any are named)."""
        for one, other in self.wanted:
            if names and not {one, other} & set(names):
                continue
            here, there = self.mesh[one], self.mesh[other]
            up = here.running and there.running and (one, other) not in self.failed
            if up and (one in self.parted) == (other in self.parted) and other not in here.links:
                self.mesh.connect(one, other)

    # -- what

    def _talk(self) -> None:
        source, target = self.random.sample(self.running(), 2)
        self.sent += source.send(target.name, b"x")

    def _link_fails(self, edge: tuple[str, str]) -> None:
        if edge in self.mesh.edges:
            self.failed.add(edge)
            if self.random.random() < SILENT:
                self.happened["silent"] += 1
                self.mesh.silence(*edge, both=self.random.random() < 0.5)
            else:
                self.happened["cut"] += 1
                self.mesh.cut(*edge)
        self._later(LINK_GAP, self._link_returns, edge)

    def _link_returns(self, edge: tuple[str, str]) -> None:
        """Unless it fell silent and its ends have yet to notice."""
        if edge not in self.mesh.edges and edge[1] in self.mesh[edge[0]].links:
            self._after(1.0, self._link_returns, edge)
            return
        self.failed.discard(edge)
        self._link_up(*edge)
        self._later(LINK_LIFE, self._link_fails, edge)

    def _node_dies(self) -> None:
        name = self.random.choice(self.running()).name
        self.happened["killed"] += 1
        self.mesh.kill(name)
        self._leave(name, self.random.expovariate(1 / NODE_GAP), keep=self.random.random() < 0.7)

    def _leave(self, name: str, seconds: float, keep: bool) -> None:
        """It comes back with an empty database, and knows its own last sequence, if anything."""
        self.gone.add(name)
        own = (name, self.mesh[name].handle)
        self.numbers = {
            key: value for key, value in self.numbers.items() if key[0] != name or (keep and key[:2] == own)
        }
        self._after(seconds, self._return, name, keep)

    def _return(self, name: str, keep: bool = True) -> None:
        if name in self.gone - self.revoked:
            self.gone.discard(name)
            self.mesh.restart(name, (), keep)
            self._link_up(name)

    def _upgrade(self) -> None:
        node = self.random.choice(self.running())
        self.happened["drained"] += 1
        node.updates.drain().addCallback(lambda _: self._drained(node.name))

    def _drained(self, name: str) -> None:
        if self.mesh[name].running:
            self.mesh.kill(name)
            self._leave(name, DRAIN_TIME, keep=True)

    def _part(self) -> None:
        self.happened["parted"] += 1
        names = [node.name for node in self.mesh]
        self.parted = set(self.random.sample(names, len(names) // 2))
        for one, other in sorted(self.mesh.edges):
            if (one in self.parted) != (other in self.parted):
                self.mesh.cut(one, other)
        self._after(PARTITION_FOR, self._join)

    def _join(self) -> None:
        self.parted.clear()
        self._link_up()

    def _clock_steps(self) -> None:
        node = self.random.choice(self.running())
        self.happened["clock"] += 1
        node.skew = self.random.choice((-3600.0, 3600.0))
        self._after(CLOCK_FOR, setattr, node, "skew", 0.0)

    def revoke(self) -> None:
        """A relay is revoked, and another node takes its place."""
        relays = [node for node in self.running() if node.peer.relay and node.name not in self.revoked]
        old, witness = self.random.sample(relays, 2)
        self.happened["revoked"] += 1
        self.revoked.add(old.name)
        self.mesh.revoke(old.name, witness.name)
        name = f"{old.name}b"
        self.mesh.add(name, *old.peer.roles).start()
        places = {old.name: name}
        mine = [edge for edge in self.wanted if old.name in edge]
        self.wanted = [edge for edge in self.wanted if old.name not in edge]
        for one, other in mine:
            one, other = sorted((places.get(one, one), places.get(other, other)))
            self.wanted.append((one, other))
            self._later(LINK_LIFE, self._link_fails, (one, other))
        self._after(TOLD_WITHIN, self._revoked, old.handle)
        self._link_up(name)

    def _revoked(self, handle: bytes) -> None:
        """Whoever has the CRL by now holds no record of the node, no link and no path to it."""
        number = self.mesh.issuer.crl.body.number
        told = [node for node in self.running() if node.trust.crl and node.trust.crl.body.number == number]
        for node in told:
            assert handle not in node.engine.store.handles()
            assert node.engine.path(handle, self.mesh.now()) is None
            assert handle not in node.neighbours.by_handle

    def look(self) -> None:
        """What holds at every moment."""
        check_numbers(self.mesh, self.numbers)
        self.visits.seen.clear()
