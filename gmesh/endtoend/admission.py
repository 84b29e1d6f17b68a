# SPDX-License-Identifier: MIT
"""Whether a message may leave, and to whom: every check that can be made before, in one place."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from gmesh.endtoend import limits
from gmesh.endtoend.permissions import Permissions
from gmesh.endtoend.services import valid_service
from gmesh.errors import SendRefused
from gmesh.interfaces import IRouteEngine
from gmesh.mesh.peer_identity import Peer
from gmesh.trust.limits import CERTIFICATE_LEEWAY
from gmesh.trust.policy import Decision
from gmesh.trust.state import TrustState

__all__ = ["Admission", "Explain", "Seek"]

Explain = Callable[[bytes, float], tuple[str, str]]
"""Why there is no path to a handle: a slug and a sentence, as L{gmesh.routing.engine.RouteEngine.explain}."""

Seek = Callable[[str], Deferred[None]]
"""Find a node by name and the way to it; fires when that is done, well or not."""


class Admission:
    """
    The checks of the source.

    @param own: this node, as its current certificate says.
    @param find_name: the directory, by node name.
    @param explain: why there is no path.
    @param seek: finds nodes, where this node keeps no table of them.
    @ivar open: False while the node is not running.
    """

    def __init__(
        self,
        *,
        trust: TrustState,
        own: Callable[[], Peer],
        find_name: Callable[[str], Peer | None],
        routes: IRouteEngine,
        permissions: Permissions,
        clock: IReactorTime,
        wall: Callable[[], float],
        explain: Explain | None,
        seek: Seek | None,
    ) -> None:
        self.open = False
        self._trust = trust
        self._own = own
        self._find_name = find_name
        self._routes = routes
        self._permissions = permissions
        self._clock = clock
        self._wall = wall
        self._explain = explain
        self._seek = seek

    def seek(self, node: str) -> Deferred[None]:
        """Fires when all is known about a node that can be; at once, where a table is kept."""
        if self._seek is None or not self.open or node == self._own().name:
            return succeed(None)
        return self._seek(node)

    def admit(self, node: str, service: str, size: int = 0) -> Peer:
        """
        Every check that can be made before a message of C{size} bytes leaves.

        @return: the node called C{node}.
        @raise SendRefused: the first that failed.
        """
        if not self.open:
            raise SendRefused("stopped", "this node is not running")
        if not valid_service(service):
            raise SendRefused("bad-service", f"{service[:64]!r} is not a service name")
        if size > limits.MAX_DATAGRAM:
            raise SendRefused(
                "too-large", f"{size} bytes are more than the {limits.MAX_DATAGRAM} of a datagram"
            )
        peer = self._find(node)
        if self._trust.revoked(peer.serial, peer.node_id):
            raise SendRefused("revoked", f"the node {node} is revoked")
        if self._wall() > peer.not_after + CERTIFICATE_LEEWAY:
            raise SendRefused("expired", f"the certificate of {node} has expired and no newer one arrived")
        own = self._own()
        refusal = self._permissions.refusal(own, peer, service)
        if refusal is not None:
            raise refusal
        if peer.handle != own.handle and self._routes.path(peer.handle, self._clock.seconds()) is None:
            raise self._no_route(peer)
        return peer

    def decide(self, node: str, service: str) -> Decision:
        """
        What the policy held here says about sending to C{service} of C{node}.

        @raise SendRefused: C{unknown-node}.
        """
        return self._permissions.decide(self._own(), self._find(node), service)

    def _find(self, node: str) -> Peer:
        own = self._own()
        peer = own if node == own.name else self._find_name(node)
        if peer is None:
            self.seek(node)
            raise SendRefused("unknown-node", f"no node called {node[:64]!r} is known here")
        return peer

    def _no_route(self, peer: Peer) -> SendRefused:
        detail = f"no way to {peer.name} at present"
        if self._explain is not None:
            slug, detail = self._explain(peer.handle, self._clock.seconds())
            if slug == "too-far":
                return SendRefused(slug, detail)
        return SendRefused("no-route", detail)
