# SPDX-License-Identifier: MIT
"""
A mesh whose nodes live on their own: heartbeats, renewals, commands, reboots, wrong clocks, outages.

What L{gmesh.testing.mesh} leaves to the test is done here by the daemon's own heartbeat, against an
authority in memory::

    mesh = LivingMesh(seed=1)
    mesh.add("a", "anchor")
    mesh.start()
    mesh.run(90 * 86400)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random

from twisted.internet.defer import Deferred, DeferredList, succeed

from gmesh.mesh.limits import WAN, KeepaliveProfile
from gmesh.node.authority_client import AuthorityClient
from gmesh.node.authority_relay import AuthorityRelay, FallbackPath, RelayedAuthority
from gmesh.node.heartbeat import Heartbeat
from gmesh.node.runtime import NodeRuntime
from gmesh.testing.authority import MemoryAuthority
from gmesh.testing.authority_line import AuthorityLine
from gmesh.testing.issuer import Enrolled
from gmesh.testing.mesh import MemoryMesh, MemoryNode
from gmesh.testing.transport import Wire

__all__ = ["LivingMesh", "LivingNode", "living_line"]


class LivingNode(MemoryNode):
    """
    A node with a heartbeat.

    @ivar line: its way to the authority.
    @ivar running: whether it was started and not stopped.
    @ivar stopped: whether a command stopped it.
    @ivar reloads: how often a command reloaded it.
    """

    def __init__(self, mesh: LivingMesh, enrolled: Enrolled, host: str, peers: Sequence[str]) -> None:
        self.line = AuthorityLine(mesh.authority, mesh.clock)
        self.stopped = False
        self.running = False
        self.reloads = 0
        super().__init__(mesh, enrolled, host, peers)

    @property
    def not_after(self) -> int:
        """When its certificate ends."""
        return self.runtime.member.certificate.body.not_after

    def start(self) -> None:
        """Listen, dial, and keep in touch with the authority."""
        super().start()
        self.running = True
        self.heartbeat.startService()

    def stop(self) -> Deferred[None]:
        """As on SIGTERM."""
        self.running = False
        both = DeferredList([self.heartbeat.stopService(), super().stop()])
        return both.addCallback(lambda _: None)

    def _make(self) -> NodeRuntime:
        runtime = super()._make()
        mesh, member = self._mesh, runtime.member
        relayed = RelayedAuthority(
            runtime.datagrams, runtime.near_anchors, mesh.clock, mesh.random.randbytes, self.line.prefix
        )
        runtime.parts.append(
            AuthorityRelay(runtime.datagrams, self.line, relayed, runtime.is_anchor, mesh.clock)
        )
        client = AuthorityClient(
            FallbackPath(self.line, relayed),
            member.node_key,
            member.trust,
            member.wall,
            mesh.random.randbytes,
        )
        random = Random(mesh.random.getrandbits(64))
        self.heartbeat = Heartbeat(member, client, mesh.clock, member.wall, random, runtime.control)
        runtime.attach(self.heartbeat, self._shut_down, self._reloaded)
        return runtime

    def _opened(self, record: bytes) -> None:
        """Keep nothing: these nodes live for years."""

    def _reloaded(self) -> Deferred[str]:
        self.reloads += 1
        return succeed("reloaded")

    def _shut_down(self) -> None:
        self.stopped = True


class LivingMesh(MemoryMesh):
    """
    A L{MemoryMesh} with a L{MemoryAuthority} that its nodes talk to.

    @ivar authority: the authority, also C{issuer}.
    """

    nodes: dict[str, LivingNode]  # type: ignore[assignment]  # every node of this mesh lives

    def __getitem__(self, name: str) -> LivingNode:
        return self.nodes[name]

    def __iter__(self) -> Iterator[LivingNode]:
        return iter(self.nodes.values())

    def __init__(self, seed: int = 0, wire: Wire | None = None, profile: KeepaliveProfile = WAN) -> None:
        super().__init__(seed, wire, profile)
        self.issuer = self.authority = MemoryAuthority(self.wall, self.random)

    def _make_node(self, enrolled: Enrolled, host: str, peers: Sequence[str]) -> LivingNode:
        return LivingNode(self, enrolled, host, peers)


@contextmanager
def living_line(seed: int, settle: float) -> Iterator[LivingMesh]:
    """a - b - c, where a is an anchor and never meets c; C{settle} seconds after it found its routes."""
    mesh = LivingMesh(seed=seed)
    mesh.add("a", "anchor")
    mesh.add("b", "relay", peers=["a"])
    mesh.add("c", "client", peers=["b"])
    mesh.network.blocked.add(frozenset((mesh["a"].host, mesh["c"].host)))
    mesh.start()
    mesh.run_until(lambda: mesh["a"].reaches("c") and mesh["c"].reaches("a"))
    mesh.run(settle)
    yield mesh
    mesh.stop()
    assert mesh.clock.getDelayedCalls() == []
