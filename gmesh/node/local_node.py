# SPDX-License-Identifier: MIT
"""
The node as programs on its machine see it: names instead of handles, plain JSON values.

Tests, over the socket: C{tests/live}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gmesh
from gmesh.endtoend.services import Message, is_reserved, valid_service
from gmesh.errors import RequestRefused
from gmesh.mesh.capture import FrameTrace
from gmesh.node.heartbeat import Heartbeat
from gmesh.node.local_views import ILocalViews
from gmesh.node.runtime import NodeRuntime
from gmesh.trust.policy import PolicyRules, Subject
from gmesh.wire.frames import Kind

__all__ = ["LocalNode"]


class LocalNode:
    """
    Provides L{gmesh.node.local_api.ILocalNode} over a runtime and its heartbeat.
    """

    def __init__(self, runtime: NodeRuntime, heartbeat: Heartbeat, views: ILocalViews) -> None:
        self.views = views
        self._runtime = runtime
        self._heartbeat = heartbeat

    def status(self) -> dict[str, Any]:
        """@see: L{gmesh.node.local_api.ILocalNode.status}"""
        runtime, member = self._runtime, self._runtime.member
        numbers, trust = member.numbers(), member.trust
        age = self._heartbeat.age()
        body = member.certificate.body
        return {
            "name": member.name,
            "node_id": member.peer.node_id,
            "network": trust.genesis.body.network,
            "network_id": trust.network_id,
            "roles": list(body.roles),
            "version": gmesh.__version__,
            "certificate": {
                "serial": body.serial,
                "not_after": body.not_after,
                "standing": member.standing(),
            },
            "authority": {
                "reachable": self._heartbeat.reachable,
                "age": None if age is None else int(age),
                "freshness": trust.freshness(member.wall()).value,
            },
            "genesis_version": numbers["genesis"],
            "policy_version": numbers["policy"],
            "crl_number": numbers["crl"],
            "status_number": numbers["status"],
            "links": len(runtime.peers.links),
            "counters": runtime.counters(),
        }

    def peers(self) -> list[dict[str, Any]]:
        """@see: L{gmesh.node.local_api.ILocalNode.peers}"""
        return [
            {
                "name": link.peer.name,
                "node_id": link.peer.node_id,
                "address": link.address,
                "rtt_ms": None if link.rtt is None else round(link.rtt * 1000, 3),
                "initiator": link.initiator,
                "roles": list(link.peer.roles),
            }
            for link in sorted(self._runtime.links(), key=lambda link: link.peer.name)
        ]

    def routes(self) -> list[dict[str, Any]]:
        """@see: L{gmesh.node.local_api.ILocalNode.routes}"""
        runtime = self._runtime
        rows = [
            {"name": self._name(handle), "path": [self._name(hop) for hop in path], "cost": cost}
            for handle, path, cost in runtime.engine.table(runtime.now())
        ]
        return sorted(rows, key=lambda row: str(row["name"]))

    def alternatives(self, name: str) -> list[dict[str, Any]]:
        """@see: L{gmesh.node.local_api.ILocalNode.alternatives}"""
        runtime = self._runtime
        if name == runtime.member.name:
            return [{"name": name, "path": [name], "cost": 0}]
        peer = runtime.book.find_name(name)
        if peer is None:
            raise RequestRefused("unknown-node", f"no node called {name[:64]!r} is known here")
        found = runtime.engine.alternatives(peer.handle, runtime.now())
        if not found:
            slug, detail = runtime.engine.explain(peer.handle, runtime.now())
            raise RequestRefused("too-far" if slug == "too-far" else "no-route", detail)
        return [
            {"name": name, "path": [self._name(hop) for hop in path], "cost": cost} for path, cost in found
        ]

    def nodes(self) -> list[dict[str, Any]]:
        """@see: L{gmesh.node.local_api.ILocalNode.nodes}"""
        runtime = self._runtime
        rows = [
            {
                "name": node.member.name,
                "node_id": node.member.node_id,
                "roles": sorted(node.member.roles),
                "reachable": node.reachable or node.handle == runtime.member.handle,
                "addresses": list(node.addresses),
                "version": node.software,
                "services": list(node.services),
            }
            for node in runtime.engine.nodes(runtime.now())
        ]
        return sorted(rows, key=lambda row: str(row["name"]))

    def services(self) -> list[dict[str, Any]]:
        """@see: L{gmesh.node.local_api.ILocalNode.services}"""
        names = self._runtime.datagrams.services.names
        return [{"service": name} for name in names if not name.startswith("_")]

    def transits(self) -> list[dict[str, Any]]:
        """@see: L{gmesh.node.local_api.ILocalNode.transits}"""
        return [
            {"path": [self._name(handle) for handle in path], "kind": Kind(kind).name, "bytes": size}
            for path, (kind, size) in self._runtime.transits.items()
        ]

    async def ping(self, name: str, count: int) -> list[float]:
        """@see: L{gmesh.node.local_api.ILocalNode.ping}"""
        return [1000 * await self._runtime.echo.ping(name) for _ in range(count)]

    async def trace(self, name: str, service: str = "*") -> dict[str, Any]:
        """@see: L{gmesh.node.local_api.ILocalNode.trace}"""
        if service != "*" and not valid_service(service):
            raise RequestRefused("bad-service", f"{service[:64]!r} is not a service name")
        hops = await self._runtime.echo.trace(name)
        return {
            "path": [self._runtime.member.name, *(hop.name for hop in hops)],
            "hops": [
                {
                    "name": hop.name,
                    "rtt_ms": None if hop.rtt is None else round(1000 * hop.rtt, 3),
                    "policy": self._verdict(hop.name, service),
                    **({"reason": hop.reason} if hop.reason else {}),
                }
                for hop in hops
            ],
        }

    async def capture(self, name: str, seconds: float, count: int) -> list[dict[str, Any]]:
        """@see: L{gmesh.node.local_api.ILocalNode.capture}"""
        link = next((link for link in self._runtime.links() if link.peer.name == name), None)
        if link is None:
            raise RequestRefused("unknown-node", f"there is no link to {name}: gmesh peers lists the links")
        traces: list[FrameTrace] = await link.capture(seconds, count)
        return [self._frame(trace) for trace in traces]

    def _verdict(self, name: str, service: str) -> str:
        """What the policy says of us and a service of that node; C{*}: of whatever no rule names."""
        if is_reserved(service):
            return "allowed: no policy cuts it"
        member = self._runtime.member
        policy, peer = member.trust.policy, self._runtime.book.find_name(name)
        if policy is None or peer is None:
            return "unknown"
        here = Subject(member.name, frozenset(member.peer.roles))
        decision = PolicyRules(policy.body).decide(here, Subject(peer.name, frozenset(peer.roles)), service)
        word = "allowed" if decision.allowed else "denied"
        return f"{word}: no rule" if decision.rule is None else f"{word}: rule {decision.rule}"

    def _frame(self, trace: FrameTrace) -> dict[str, Any]:
        header = trace.header
        row: dict[str, Any] = {
            "at_ms": round(1000 * trace.at, 3),
            "sent": trace.sent,
            "kind": trace.kind,
            "bytes": trace.size,
        }
        if header is not None:
            row["path"] = [self._name(handle) for handle in header.path]
            row["hop"] = header.hop
            row["counter"] = header.counter
            row["splices"] = header.splices
        return row

    async def send(self, name: str, service: str, data: bytes, timeout: float) -> float:
        """@see: L{gmesh.node.local_api.ILocalNode.send}"""
        delivered = await self._runtime.datagrams.send(name, service, data, timeout=timeout)
        return 1000 * (delivered.rtt or 0.0)

    def receive(self, service: str, receiver: Callable[[str, bytes], None]) -> Callable[[], None]:
        """@see: L{gmesh.node.local_api.ILocalNode.receive}"""

        def received(message: Message) -> None:
            receiver(message.source_name, message.data)

        return self._runtime.datagrams.register(service, received).unregister

    def _name(self, handle: bytes) -> str:
        peer = self._runtime.book.find_handle(handle)
        return peer.name if peer is not None else handle.hex()
