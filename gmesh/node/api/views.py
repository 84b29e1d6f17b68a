# SPDX-License-Identifier: MIT
"""
The node as programs on its machine see it: names instead of handles, plain JSON values.

Tests: C{tests/node/api/test_views.py}; over the socket: C{tests/live}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

import gmesh
from gmesh.endtoend.services import Receiver, is_reserved, valid_service
from gmesh.errors import RequestRefused, SendRefused
from gmesh.mesh.capture import FrameTrace
from gmesh.node.api.json_lines import Rows
from gmesh.node.api.mesh_tables import Followers, node_rows, service_rows
from gmesh.node.api.start_settings import Settings
from gmesh.node.api.stream_table import StreamTable
from gmesh.node.api.whois import links_of, name_of, whois
from gmesh.node.heartbeat import Heartbeat
from gmesh.node.limits import FULL_PAUSE
from gmesh.node.runtime import NodeRuntime
from gmesh.trust.policy import PolicyRules, Subject
from gmesh.wire.frames import Kind

__all__ = ["LocalNode"]


class LocalNode:
    """
    What the local API needs of a node, over a runtime and its heartbeat.

    @param clock: says when to look again for those who follow.
    @ivar streams: those that are open.
    @ivar on_change: calls a function when something may have changed; returns what stops it.
    """

    def __init__(
        self,
        runtime: NodeRuntime,
        heartbeat: Heartbeat,
        clock: IReactorTime,
        settings: Settings,
    ) -> None:
        self._runtime = runtime
        self._heartbeat = heartbeat
        self._settings = settings
        self._clock = clock
        self.streams = StreamTable(runtime.streams.open_streams, runtime.now)
        self.on_change = Followers(runtime, clock).follow

    def wall(self) -> float:
        """Unix seconds."""
        return self._runtime.member.wall()

    def status(self) -> dict[str, Any]:
        """The C{status} object."""
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
            "links": len(runtime.neighbours.links),
            "counters": runtime.counters(),
        }

    def peers(self) -> list[dict[str, Any]]:
        """The direct neighbours."""
        return [
            {
                "name": link.peer.name,
                "node_id": link.peer.node_id,
                "address": link.address,
                "over": link.over,
                "rtt_ms": None if link.rtt is None else round(link.rtt * 1000, 3),
                "initiator": link.initiator,
                "roles": list(link.peer.roles),
                "control_seconds": round(self._runtime.budgets.spent(link.peer.handle), 3),
            }
            for link in sorted(self._runtime.links(), key=lambda link: link.peer.name)
        ]

    def routes(self) -> list[dict[str, Any]]:
        """The cheapest path to every reachable node."""
        runtime = self._runtime
        rows = [
            {"name": name_of(runtime, handle), "path": self._names(path), "cost": cost}
            for handle, path, cost in runtime.engine.table(runtime.now())
        ]
        return sorted(rows, key=lambda row: str(row["name"]))

    def alternatives(self, name: str) -> list[dict[str, Any]]:
        """The paths to one node, the best first, each without the relays of those before it."""
        runtime = self._runtime
        if name == runtime.member.name:
            return [{"name": name, "path": [name], "cost": 0}]
        peer = runtime.directory.find_name(name)
        if peer is None:
            raise RequestRefused("unknown-node", f"no node called {name[:64]!r} is known here")
        found = runtime.engine.alternatives(peer.handle, runtime.now())
        if not found:
            slug, detail = runtime.engine.explain(peer.handle, runtime.now())
            raise RequestRefused("too-far" if slug == "too-far" else "no-route", detail)
        return [{"name": name, "path": self._names(path), "cost": cost} for path, cost in found]

    def nodes(self) -> list[dict[str, Any]]:
        """As L{node_rows}."""
        return node_rows(self._runtime)

    def services(self) -> list[dict[str, Any]]:
        """As L{service_rows}."""
        return service_rows(self._runtime)

    def transits(self) -> list[dict[str, Any]]:
        """The paths of others that passed through this node, with kind and size of the first frame."""
        return [
            {"path": self._names(path), "kind": Kind(kind).name, "bytes": size}
            for path, (kind, size) in self._runtime.transits.items()
        ]

    async def ping(self, name: str, count: int) -> list[float]:
        """Round trips in milliseconds."""
        return [1000 * await self._runtime.echo.ping(name) for _ in range(count)]

    async def trace(self, name: str, service: str = "*") -> dict[str, Any]:
        """The path to a node; to each hop the round trip, and what the policy says of a service of it."""
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
        """The headers of the frames on the link to a neighbour, for so long or so many."""
        link = self._runtime.neighbours.by_name(name)
        if link is None:
            raise RequestRefused("unknown-node", f"there is no link to {name}: gmesh peers lists the links")
        traces: list[FrameTrace] = await link.capture(seconds, count)
        return [self._frame(trace) for trace in traces]

    def _verdict(self, name: str, service: str) -> str:
        """What the policy says of us and a service of that node; C{*}: of whatever no rule names."""
        if is_reserved(service):
            return "allowed: no policy cuts it"
        member = self._runtime.member
        policy, peer = member.trust.policy, self._runtime.directory.find_name(name)
        if policy is None or peer is None:
            return "unknown"
        here = Subject(member.name, frozenset(member.peer.roles))
        decision = PolicyRules(policy.body).decide(here, Subject(peer.name, frozenset(peer.roles)), service)
        word = "allowed" if decision.allowed else "denied"
        return f"{word}: no rule" if decision.rule is None else f"{word}: rule {decision.rule}"

    def _names(self, path: Sequence[bytes]) -> list[str]:
        return [name_of(self._runtime, handle) for handle in path]

    def _frame(self, trace: FrameTrace) -> dict[str, Any]:
        header = trace.header
        row: dict[str, Any] = {
            "at_ms": round(1000 * trace.at, 3),
            "sent": trace.sent,
            "kind": trace.kind,
            "bytes": trace.size,
        }
        if header is not None:
            row["path"] = self._names(header.path)
            row["hop"] = header.hop
            row["counter"] = header.counter
            row["splices"] = header.splices
        return row

    async def send(
        self, name: str, service: str, data: bytes, timeout: float, key: str = ""
    ) -> tuple[float, bytes]:
        """Deliver, waiting for room here too: the milliseconds until it was done with, and the answer."""
        datagrams, clock = self._runtime.datagrams, self._clock
        since = clock.seconds()
        while True:
            left = timeout - (clock.seconds() - since)
            try:
                delivered = await datagrams.send(name, service, data, timeout=left, key=key)
            except SendRefused as refusal:
                if refusal.reason != "busy" or clock.seconds() - since + FULL_PAUSE >= timeout:
                    raise
                await deferLater(clock, FULL_PAUSE)
                continue
            return 1000 * (clock.seconds() - since), delivered.answer

    def receive(
        self, service: str, receiver: Receiver, owner: object, shared: bool = False
    ) -> Callable[[], None]:
        """Hand messages for C{service} to a program; returns what is to be called when it has gone."""
        return self._runtime.datagrams.register(service, receiver, owner=owner, shared=shared).gone

    def whois(self, text: str) -> dict[str, Any]:
        """All that is known of the node with this name, node id, or beginning of either."""
        return whois(self._runtime, text)

    def topology(self) -> dict[str, Any]:
        """Every node and every link that both of its ends report."""
        runtime = self._runtime
        own = runtime.member.handle
        nodes = runtime.engine.nodes(runtime.now())
        claims = {node.handle: links_of(runtime, node.handle) for node in nodes} | {
            own: links_of(runtime, own)
        }
        rows = {
            node.handle: _node(node.member.name, node.member.node_id, node.member.roles, node.reachable)
            for node in nodes
        }
        member = runtime.member
        rows[own] = _node(member.name, member.peer.node_id, frozenset(member.roles), True)
        return {
            "self": member.name,
            "nodes": sorted(rows.values(), key=lambda row: str(row["name"])),
            "links": [
                {
                    "ends": [name_of(self._runtime, one), name_of(self._runtime, other)],
                    "cost": max(cost, claims[other][one]),
                }
                for one, links in sorted(claims.items())
                for other, cost in sorted(links.items())
                if one < other and one in claims.get(other, {})
            ],
        }

    def doctor(self) -> dict[str, Any]:
        """What only the running daemon knows of its troubles."""
        runtime, settings, age = self._runtime, self._settings, self._heartbeat.age()
        own = [node for node in runtime.engine.nodes(runtime.now()) if node.handle == runtime.member.handle]
        return {
            "state": settings.state,
            "listen": list(settings.listen),
            "advertise": [address for node in own for address in node.addresses],
            "clock_behind": round(runtime.member.clock_behind(), 1),
            "serial": runtime.member.peer.serial,
            "authority": {
                "urls": list(runtime.member.authority_urls()),
                "reachable": self._heartbeat.reachable,
                "age": None if age is None else int(age),
                "troubles": self._heartbeat.troubles,
            },
            "faults": runtime.faults(),
            "links": len(runtime.neighbours.links),
            "targets": [
                {
                    "address": target.address,
                    "state": target.state.value,
                    "reason": target.reason,
                    "why": target.why,
                    "over": self._over(target.handle),
                    "failures": target.failures,
                    "name": None if target.handle is None else name_of(self._runtime, target.handle),
                }
                for target in runtime.dialler.targets
            ],
        }

    def _over(self, handle: bytes | None) -> str:
        link = None if handle is None else self._runtime.neighbours.links.get(handle)
        return "" if link is None else link.over

    def table(self, what: str) -> Callable[[], Rows]:
        """
        How to look at C{peers}, C{routes}, C{status} or C{streams}.

        @raise RequestRefused: if it is none of these.
        """
        tables = {
            "peers": self._peers,
            "routes": self._routes,
            "status": self._status,
            "streams": self.streams.followed,
        }
        if what not in tables:
            raise RequestRefused("invalid-field", f"give what to follow: /v1/follow?what={'|'.join(tables)}")
        return tables[what]

    def _peers(self) -> Rows:
        links = sorted(self._runtime.links(), key=lambda link: str(link.peer.name))
        return {
            link.peer.node_id: {
                "name": link.peer.name,
                "node_id": link.peer.node_id,
                "address": link.address,
                "initiator": link.initiator,
            }
            for link in links
        }

    def _routes(self) -> Rows:
        runtime = self._runtime
        return {
            handle.hex(): {"name": name_of(runtime, handle), "path": self._names(path)}
            for handle, path, _ in runtime.engine.table(runtime.now())
        }

    def _status(self) -> Rows:
        member, numbers = self._runtime.member, self._runtime.member.numbers()
        return {
            "status": {
                "name": member.name,
                "serial": member.peer.serial,
                "standing": member.standing(),
                "reachable": self._heartbeat.reachable,
                "freshness": member.trust.freshness(member.wall()).value,
                "genesis_version": numbers["genesis"],
                "policy_version": numbers["policy"],
                "crl_number": numbers["crl"],
                "links": len(self._runtime.neighbours.links),
            }
        }


def _node(name: str, node_id: str, roles: Sequence[str] | frozenset[str], reachable: bool) -> dict[str, Any]:
    return {"name": name, "node_id": node_id, "roles": sorted(roles), "reachable": reachable}
