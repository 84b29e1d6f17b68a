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
from gmesh.mesh.peer_identity import Peer
from gmesh.node.following import Rows
from gmesh.node.heartbeat import Heartbeat
from gmesh.node.limits import FOLLOW_EVERY, WHOIS_CANDIDATES
from gmesh.node.runtime import NodeRuntime
from gmesh.trust.encoding import b64url_encode

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


@dataclass(frozen=True, slots=True)
class Settings:
    """
    What the daemon was told, as far as C{doctor} wants to know.

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

    # whois

    def whois(self, text: str) -> dict[str, Any]:
        """@see: L{ILocalViews.whois}"""
        peer = self._find(text)
        if peer is None:
            return self._whois_revoked(text)
        runtime, now = self._runtime, self._runtime.now()
        body = peer.certificate.body
        node = next((node for node in runtime.engine.nodes(now) if node.handle == peer.handle), None)
        own = peer.handle == runtime.member.handle
        path = (peer.handle,) if own else runtime.engine.path(peer.handle, now)
        records = runtime.engine.store.fragments(peer.handle).values()
        link = next((link for link in runtime.links() if link.peer.handle == peer.handle), None)
        return {
            "name": peer.name,
            "node_id": peer.node_id,
            "roles": list(peer.roles),
            "revoked": False,
            "certificate": {
                "serial": body.serial,
                "issued_at": body.issued_at,
                "not_before": body.not_before,
                "not_after": body.not_after,
            },
            "node_key": b64url_encode(peer.node_key),
            "reachable": path is not None,
            "path": None if path is None else [self._name(handle) for handle in path],
            "link": None if link is None else _link(link),
            "links": [
                {"name": self._name(handle), "cost": cost}
                for handle, cost in sorted(self._links_of(peer.handle).items())
            ],
            "addresses": [] if node is None else list(node.addresses),
            "services": [] if node is None else list(node.services),
            "version": None if node is None else node.software,
            "last_heard": max((entry.record.issued_at for entry in records), default=None),
        }

    def _find(self, text: str) -> Peer | None:
        """@raise RequestRefused: C{ambiguous}, when several nodes begin so."""
        own = self._runtime.member.peer
        if text in (own.name, own.node_id):
            return own
        found = self._runtime.book.find_name(text)
        if found is not None or not text:
            return found
        known = {peer.handle: peer for peer in (*self._runtime.book.peers(), own)}
        near = [
            peer for peer in known.values() if peer.name.startswith(text) or peer.node_id.startswith(text)
        ]
        if len(near) > 1:
            names = sorted(peer.name for peer in near)
            more = f" and {len(names) - WHOIS_CANDIDATES} more" if len(names) > WHOIS_CANDIDATES else ""
            raise RequestRefused(
                "ambiguous",
                f"{len(names)} nodes begin with {text[:40]}: {', '.join(names[:WHOIS_CANDIDATES])}{more}",
            )
        return near[0] if near else None

    def _whois_revoked(self, text: str) -> dict[str, Any]:
        """What is left of a node whose certificate is believed no longer."""
        crl = self._runtime.member.trust.crl
        keys = (
            []
            if crl is None or not text
            else [key for key, _ in crl.body.revoked_keys if key.startswith(text)]
        )
        by_name = self._runtime.book.was_revoked(text)
        if not by_name and len(keys) != 1:
            raise RequestRefused("unknown-node", f"no node is known by the name or node id {text[:64]}")
        return {
            "name": text if by_name else None,
            "node_id": keys[0] if len(keys) == 1 else None,
            "roles": [],
            "revoked": True,
            "certificate": None,
            "node_key": None,
            "reachable": False,
            "path": None,
            "link": None,
            "links": [],
            "addresses": [],
            "services": [],
            "version": None,
            "last_heard": None,
        }

    # topology

    def topology(self) -> dict[str, Any]:
        """@see: L{ILocalViews.topology}"""
        runtime = self._runtime
        own = runtime.member.handle
        nodes = runtime.engine.nodes(runtime.now())
        claims = {node.handle: self._links_of(node.handle) for node in nodes} | {own: self._links_of(own)}
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
                {"ends": [self._name(one), self._name(other)], "cost": max(cost, claims[other][one])}
                for one, links in sorted(claims.items())
                for other, cost in sorted(links.items())
                if one < other and one in claims.get(other, {})
            ],
        }

    def _links_of(self, handle: bytes) -> dict[bytes, int]:
        """What a node says of its links."""
        if handle == self._runtime.member.handle:
            return dict(self._runtime.engine.originator.links)
        fragments = self._runtime.engine.store.fragments(handle)
        return {peer: cost for entry in fragments.values() for peer, cost in entry.record.links}

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
                    "name": None if target.handle is None else self._name(target.handle),
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
            handle.hex(): {"name": self._name(handle), "path": [self._name(hop) for hop in path]}
            for handle, path, _ in runtime.engine.table(runtime.now())
        }

    def _status(self) -> Rows:
        member, numbers = self._runtime.member, self._runtime.member.numbers()
        return {
            "status": {
                "name": member.name,
                "serial": member.peer.serial,
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

    def _name(self, handle: bytes) -> str:
        peer = self._runtime.book.find_handle(handle)
        return peer.name if peer is not None else handle.hex()


def _link(link: ILink) -> dict[str, Any]:
    return {
        "address": link.address,
        "rtt_ms": None if link.rtt is None else round(link.rtt * 1000, 3),
        "initiator": link.initiator,
    }


def _node(name: str, node_id: str, roles: Sequence[str] | frozenset[str], reachable: bool) -> dict[str, Any]:
    return {"name": name, "node_id": node_id, "roles": sorted(roles), "reachable": reachable}
