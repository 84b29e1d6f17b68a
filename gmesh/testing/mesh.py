# SPDX-License-Identifier: MIT
"""
A whole mesh in one process and no real time: whole nodes, real keys, in-memory transports, one clock.

Everything but the authority, the files and the sockets is what the daemon runs: the same
L{NodeRuntime<gmesh.node.runtime.NodeRuntime>}, the same Noise.  A run is repeated by its seed::

    mesh = MemoryMesh.line("a", "b", "c")
    mesh.run_until(lambda: mesh["a"].reaches("c"))
    mesh["c"].runtime.datagrams.register("log", received.append)
    mesh.result(mesh["a"].runtime.datagrams.send("c", "log", b"hello"))

Tests: C{tests/node/test_memory_mesh.py}, C{tests/node/test_memory_mesh_faults.py}.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations, product

from gmesh.mesh.limits import WAN, KeepaliveProfile
from gmesh.testing.issuer import DAY, Enrolled
from gmesh.testing.memory_node import MemoryNode
from gmesh.testing.network import MemoryNetwork
from gmesh.testing.transport import MemoryConnection, Wire
from gmesh.testing.world import World

__all__ = ["MemoryMesh", "MemoryNode"]


class MemoryMesh(World):
    """
    Nodes, their network, their authority and their time.

    @param seed: decides keys, jitter and how bytes arrive.
    @param wire: what the connections are like.
    @param profile: how soon a silent neighbour is given up.
    """

    def __init__(self, seed: int = 0, wire: Wire | None = None, profile: KeepaliveProfile = WAN) -> None:
        super().__init__(seed)
        self.profile = profile
        self.network = MemoryNetwork(self.clock, self.random, wire)
        self.nodes: dict[str, MemoryNode] = {}

    @classmethod
    def line(cls, *names: str, seed: int = 0, wire: Wire | None = None, lifetime: int = DAY) -> MemoryMesh:
        """Nodes in a line, each linked to the next: relays inside, clients at the ends; started."""
        mesh = cls(seed, wire)
        for index, name in enumerate(names):
            role = "client" if index in (0, len(names) - 1) else "relay"
            mesh.add(name, role, peers=names[max(index - 1, 0) : index], lifetime=lifetime)
        mesh.start()
        return mesh

    def __getitem__(self, name: str) -> MemoryNode:
        return self.nodes[name]

    def __iter__(self) -> Iterator[MemoryNode]:
        return iter(self.nodes.values())

    def name_of(self, handle: bytes) -> str:
        """The name of the node with this handle."""
        return next(node.name for node in self if node.handle == handle)

    def add(self, name: str, *roles: str, peers: Sequence[str] = (), lifetime: int = DAY) -> MemoryNode:
        """Enrol a node that dials the C{peers} of these names."""
        enrolled = self.issuer.enrol(name, *(roles or ("relay",)), lifetime=lifetime)
        host = f"10.0.{len(self.nodes) // 250}.{len(self.nodes) % 250 + 1}"
        node = self._make_node(enrolled, host, [self[peer].address for peer in peers])
        self.nodes[name] = node
        return node

    def _make_node(self, enrolled: Enrolled, host: str, peers: Sequence[str]) -> MemoryNode:
        return MemoryNode(self, enrolled, host, peers)

    def start(self) -> None:
        """Start every node."""
        for node in self:
            node.start()

    def stop(self) -> None:
        """Stop every node and let the last connection end; nothing is left on the clock."""
        for node in self:
            node.stop()
        self.run(30)

    def redial(self, name: str, *peers: str) -> None:
        """Have a node that has not started dial these: what closes a ring."""
        self[name].dial([self[peer].address for peer in peers])

    # -- what may happen

    def cut(self, one: str, other: str) -> None:
        """The connection between two nodes breaks, and both hosts say so; it may be dialled again."""
        for connection in self._between(one, other):
            connection.cut()

    def silence(self, one: str, other: str, both: bool = True) -> None:
        """From now on nothing from C{one} reaches C{other} (nor back), and nobody is told; until L{heal}."""
        self.network.blocked.add(frozenset((self[one].host, self[other].host)))
        for connection in self._between(one, other):
            forth = connection.client.getHost().host == self[one].host
            connection.silence(forth=both or forth, back=both or not forth)

    def partition(self, *groups: Collection[str]) -> None:
        """Break every connection between nodes of different groups; none is made again until L{heal}."""
        for group, others in combinations(groups, 2):
            for one, other in product(group, others):
                self.network.blocked.add(frozenset((self[one].host, self[other].host)))
                self.cut(one, other)

    def heal(self) -> None:
        """What L{silence} and L{partition} took away is back; bytes held back arrive."""
        self.network.blocked.clear()
        for connection in self.network.open_connections():
            connection.heal()

    def slow(self, one: str, other: str, rate: float | None) -> None:
        """The connection between two nodes carries so many bytes a second each way from now on."""
        for connection in self._between(one, other):
            connection.set_rate(rate)

    def _between(self, one: str, other: str) -> list[MemoryConnection]:
        return self.network.between(self[one].host, self[other].host)

    def publish(self, *names: str) -> None:
        """Tell these nodes (all, if none is named) what the authority holds now, as a heartbeat would."""
        for name in names or tuple(self.nodes):
            trust = self[name].runtime.member.trust
            for document in (self.issuer.status, self.issuer.crl, self.issuer.policy):
                trust.offer(document, self.wall())
