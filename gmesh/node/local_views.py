# SPDX-License-Identifier: MIT
"""
What the node knows of others, of the mesh and of its own troubles, for C{whois}, C{watch} and C{doctor}.

Tests: C{tests/node/test_local_views.py}; over the socket: C{tests/live}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from gmesh.errors import RequestRefused
from gmesh.interfaces import ILink
from gmesh.node.following import Rows
from gmesh.node.heartbeat import Heartbeat
from gmesh.node.limits import FOLLOW_EVERY
from gmesh.node.runtime import NodeRuntime
from gmesh.node.whois import links_of, name_of, whois

__all__ = ["ILocalViews", "LocalViews", "Settings"]


class ILocalViews(Protocol):
    """What the local API asks about more than one table: L{LocalViews}."""

    def whois(self, text: str) -> dict[str, Any]:
        """All that is known of the node with this name, node id, or beginning of either."""

    def topology(self) -> dict[str, Any]:
        """Every node and every link that both its ends tell of."""

    def doctor(self) -> dict[str, Any]:
        """What only the running daemon knows of its troubles."""

    def table(self, what: str) -> Callable[[], Rows]:
        """How to look at C{peers}, C{routes} or C{status}. @raise RequestRefused: if it is none of these."""

    def on_change(self, tell: Callable[[], None]) -> Callable[[], None]:
        """Call C{tell} when something may have changed; returns what stops it."""

    def wall(self) -> float:
        """Unix seconds."""


@dataclass(slots=True)
class Settings:
    """
    What the daemon was told, as far as C{doctor} wants to know; a reload may change it.

    @ivar state: the state directory, absolute.
    @ivar listen: endpoint strings.
    """

    state: str
    listen: tuple[str, ...] = ()
    authority_urls: tuple[str, ...] = ()


class LocalViews:
    """
    Provides L{ILocalViews} over a runtime and its heartbeat.

    @param clock: tells when to look again for those who follow.
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
        self._followers: list[Callable[[], None]] = []
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock
        runtime.peers.add_listener(self)

    def wall(self) -> float:
        """@see: L{ILocalViews.wall}"""
        return self._runtime.member.wall()

    def whois(self, text: str) -> dict[str, Any]:
        """@see: L{ILocalViews.whois}"""
        return whois(self._runtime, text)

    # topology

    def topology(self) -> dict[str, Any]:
        """@see: L{ILocalViews.topology}"""
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

    # doctor

    def doctor(self) -> dict[str, Any]:
        """@see: L{ILocalViews.doctor}"""
        runtime, settings, age = self._runtime, self._settings, self._heartbeat.age()
        own = [node for node in runtime.engine.nodes(runtime.now()) if node.handle == runtime.member.handle]
        return {
            "state": settings.state,
            "listen": list(settings.listen),
            "advertise": [address for node in own for address in node.addresses],
            "clock_behind": round(runtime.member.clock_behind(), 1),
            "authority": {
                "urls": list(settings.authority_urls),
                "reachable": self._heartbeat.reachable,
                "age": None if age is None else int(age),
                "troubles": self._heartbeat.troubles,
            },
            "links": len(runtime.peers.links),
            "targets": [
                {
                    "address": target.address,
                    "state": target.state.value,
                    "reason": target.reason,
                    "failures": target.failures,
                    "name": None if target.handle is None else name_of(self._runtime, target.handle),
                }
                for target in runtime.dialler.targets
            ],
        }

    # following

    def table(self, what: str) -> Callable[[], Rows]:
        """@see: L{ILocalViews.table}"""
        tables = {"peers": self._peers, "routes": self._routes, "status": self._status}
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
            handle.hex(): {
                "name": name_of(self._runtime, handle),
                "path": [name_of(self._runtime, hop) for hop in path],
            }
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
                "links": len(self._runtime.peers.links),
            }
        }

    def on_change(self, tell: Callable[[], None]) -> Callable[[], None]:
        """@see: L{ILocalViews.on_change}"""
        self._followers.append(tell)
        if not self._looking.running:
            self._looking.start(FOLLOW_EVERY, now=False)

        def stop() -> None:
            self._followers.remove(tell)
            if not self._followers:
                self._looking.stop()

        return stop

    def _look(self) -> None:
        for tell in tuple(self._followers):
            tell()

    # gmesh.mesh.peers.PeersListener

    def link_up(self, link: ILink) -> None:
        """A link that comes and goes between two looks is told too."""
        self._look()

    def link_down(self, link: ILink, reason: str) -> None:
        """The same."""
        self._look()

    def link_changed(self, link: ILink) -> None:
        """Nothing that is told."""


def _node(name: str, node_id: str, roles: Sequence[str] | frozenset[str], reachable: bool) -> dict[str, Any]:
    return {"name": name, "node_id": node_id, "roles": sorted(roles), "reachable": reachable}
