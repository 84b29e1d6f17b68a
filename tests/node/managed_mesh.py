# SPDX-License-Identifier: MIT
"""
A mesh with a managed authority: heartbeats, renewals, commands, reboots, wrong clocks, outages.

What C{gmesh.testing.mesh} leaves to the test is done here by the daemon's own heartbeat, against an
authority in memory::

    mesh = ManagedMesh(seed=1)
    mesh.add("a", "anchor")
    mesh.start()
    mesh.run(90 * 86400)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random

from node.memory_authority import MemoryAuthority
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IReactorTime

from gmesh.mesh.limits import WAN, KeepaliveProfile
from gmesh.node.authority_client import AuthorityClient
from gmesh.node.authority_http import Answer, AuthorityUnreachable, Headers, read_answer
from gmesh.node.authority_relay import AuthorityRelay, FallbackPath, RelayedAuthority
from gmesh.node.heartbeat import Heartbeat
from gmesh.node.join_relay import JoinRelay
from gmesh.node.runtime import NodeRuntime
from gmesh.testing.issuer import Enrolled
from gmesh.testing.mesh import MemoryMesh, MemoryNode
from gmesh.testing.transport import Wire
from gmesh.testing.world import START

__all__ = ["ManagedMesh", "ManagedNode", "managed_line"]


class AuthorityLine:
    """
    One node's path to a L{MemoryAuthority}, in place of HTTP.

    @ivar open: whether this node reaches it.
    @ivar forward_only: whether only what others ask gets through.
    @ivar asked: every method and path, polls left out.
    """

    def __init__(self, authority: MemoryAuthority, clock: IReactorTime) -> None:
        self.open = True
        self.forward_only = False
        self.asked: list[str] = []
        self._authority = authority
        self._clock = clock

    def close(self) -> None:
        """Nothing is kept open."""

    async def ask(
        self, method: str, path: str, headers: Headers, data: bytes = b"", timeout: float = 30.0
    ) -> bytes:
        """@see: L{gmesh.node.authority_relay.AuthorityPath.ask}"""
        if path.startswith("/status?"):
            if path.endswith(self._authority.status.digest):
                await self._authority.news(self._clock)
            path = "/status"
        if self.forward_only:
            raise AuthorityUnreachable("unreachable", "nobody there")
        return read_answer(await self.forward(method, path, headers(path), data))

    async def forward(self, method: str, target: str, headers: dict[str, str], data: bytes) -> Answer:
        """@see: L{gmesh.node.authority_http.AuthorityHTTP.forward}"""
        self.asked.append(f"{method} {target}")
        reached = self.open or self.forward_only
        if not reached or not self._authority.up:
            raise AuthorityUnreachable("unreachable", "nobody there")
        return self._authority.answer(method, target, headers, data)


class ManagedNode(MemoryNode):
    """
    A node with a heartbeat.

    @ivar line: its path to the authority.
    @ivar joins: lets hosts join by it, where the test allows that.
    @ivar running: whether it was started and not stopped.
    @ivar stopped: whether a command stopped it.
    @ivar reloads: how often a command reloaded it.
    """

    def __init__(self, mesh: ManagedMesh, enrolled: Enrolled, host: str, peers: Sequence[str]) -> None:
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
            runtime.datagrams,
            runtime.renewals,
            runtime.near_anchors,
            mesh.clock,
            mesh.random.randbytes,
        )
        runtime.parts.append(
            AuthorityRelay(
                runtime.datagrams, self.line, relayed, runtime.renewals, runtime.is_anchor, mesh.clock
            )
        )
        self.joins = JoinRelay(self.line, runtime.joins, member, mesh.clock)
        runtime.parts.append(self.joins)
        client = AuthorityClient(
            FallbackPath(self.line, relayed),
            member.node_key,
            member.trust,
            member.wall,
            mesh.random.randbytes,
        )
        random = Random(mesh.random.getrandbits(64))
        self.heartbeat = Heartbeat(
            member, client, mesh.clock, member.wall, random, runtime.control, runtime.report
        )
        runtime.attach(self.heartbeat, self._shut_down, self._reloaded)
        return runtime

    def _opened(self, record: bytes) -> None:
        """Keep nothing: these nodes live for years."""

    def _reloaded(self) -> Deferred[str]:
        self.reloads += 1
        return succeed("reloaded")

    def _shut_down(self) -> None:
        self.stopped = True


class ManagedMesh(MemoryMesh):
    """
    A L{MemoryMesh} with a L{MemoryAuthority} that its nodes talk to.

    @ivar authority: the authority, also C{issuer}.
    """

    nodes: dict[str, ManagedNode]  # type: ignore[assignment]  # every node of this mesh lives

    def __getitem__(self, name: str) -> ManagedNode:
        return self.nodes[name]

    def __iter__(self) -> Iterator[ManagedNode]:
        return iter(self.nodes.values())

    def __init__(self, seed: int = 0, wire: Wire | None = None, profile: KeepaliveProfile = WAN) -> None:
        self._lead, self._pace = START, 1.0
        super().__init__(seed, wire, profile)
        self.issuer = self.authority = MemoryAuthority(self.wall, self.random)

    def wall(self) -> float:
        """Unix seconds."""
        return self._lead + self._pace * self.clock.seconds()

    def lapse(self, pace: float) -> None:
        """
        From now on the Unix time of everybody passes C{pace} times as fast as the monotonic clocks.

        So a month costs what a day does: certificates and documents age in Unix time; heartbeats,
        keepalives and back-offs keep their own seconds.
        """
        self._lead = self.wall() - pace * self.clock.seconds()
        self._pace = pace

    def make_node(self, enrolled: Enrolled, host: str, peers: Sequence[str]) -> ManagedNode:
        return ManagedNode(self, enrolled, host, peers)


@contextmanager
def managed_line(seed: int, settle: float) -> Iterator[ManagedMesh]:
    """a - b - c, where a is an anchor and never meets c; C{settle} seconds after it found its routes."""
    mesh = ManagedMesh(seed=seed)
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
