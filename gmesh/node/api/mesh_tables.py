# SPDX-License-Identifier: MIT
"""
Who is in the mesh and who offers what, as programs ask for it and follow it.

Tests: C{tests/node/api/test_views.py}, C{tests/node/api/test_service_watches.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from gmesh.endtoend.services import is_reserved
from gmesh.node.api.message_leg import LegNode
from gmesh.node.limits import FOLLOW_EVERY
from gmesh.node.runtime import NodeRuntime
from gmesh.streams.listeners import BENCH_SERVICE

__all__ = ["Followers", "leg_node", "node_rows", "service_rows"]


def node_rows(runtime: NodeRuntime) -> list[dict[str, Any]]:
    """Every node known from its record."""
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


def service_rows(runtime: NodeRuntime) -> list[dict[str, Any]]:
    """
    Each service of the mesh: the nodes that can be reached and say that they have it, and this one; and
    whether messages or streams to it are taken here.
    """
    own = runtime.member.name
    messages, streams = runtime.datagrams.services.names, runtime.streams.listeners.names
    taken = {name for name in (*messages, *streams) if not is_reserved(name) and name != BENCH_SERVICE}
    found = {service: {own} for service in taken}
    for node in runtime.engine.nodes(runtime.now()):
        if node.reachable and node.member.name != own:
            for service in node.services:
                found.setdefault(service, set()).add(node.member.name)
    return [
        {
            "service": service,
            "nodes": sorted(nodes),
            "messages": service in messages,
            "streams": service in streams,
        }
        for service, nodes in sorted(found.items())
    ]


class Followers:
    """Looks again now and then, and whenever a link comes or goes, as long as anybody follows."""

    def __init__(self, runtime: NodeRuntime, clock: IReactorTime) -> None:
        self._followers: list[Callable[[], object]] = []
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock
        runtime.neighbours.follow(lambda neighbour, up: self._look())

    def follow(self, tell: Callable[[], object]) -> Callable[[], None]:
        """Call C{tell} when something may have changed; returns what stops it."""
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


def leg_node(runtime: NodeRuntime, follow: Callable[[Callable[[], object]], Callable[[], None]]) -> LegNode:
    """What the connections of messages of a node need. @param follow: as L{Followers.follow}."""
    member = runtime.member

    def describe() -> dict[str, Any]:
        return {"name": member.name, "node_id": member.peer.node_id, "roles": list(member.roles)}

    tables: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "nodes": partial(node_rows, runtime),
        "services": partial(service_rows, runtime),
    }
    return LegNode(runtime.datagrams, describe, tables, runtime.count, follow)
