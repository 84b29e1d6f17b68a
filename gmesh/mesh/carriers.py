# SPDX-License-Identifier: MIT
"""
What carries a link to an address: plain TCP, TLS, a WebSocket in TLS.

Tests: C{tests/mesh/test_carriers.py}, C{tests/mesh/test_dialler.py}.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from twisted.internet.endpoints import HostnameEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

from gmesh.errors import ConfigurationError
from gmesh.mesh.limits import DIAL_DEADLINE
from gmesh.mesh.opening import OpeningEndpoint
from gmesh.mesh.resolving import ElsewhereReactor
from gmesh.mesh.tls import TlsEndpoint, TlsTrust
from gmesh.trust.transport_address import FORMS, HTTPS_PORT, Transport, read_address

__all__ = ["Carriers", "client_endpoint"]


class Carriers:
    """
    Makes the endpoints that a node dials with.

    @param tls: what is trusted under links.
    """

    def __init__(self, reactor: object, tls: TlsTrust) -> None:
        self._reactor = reactor
        self.tls = tls

    def endpoint(self, target: str, avoid: Collection[str] = ()) -> IStreamClientEndpoint:
        """
        The endpoint for an address: tries all that its host has in parallel (happy eyeballs, RFC 8305).

        @param avoid: addresses of its host that are not tried: they lead back to this node, or too near.
        @raise ConfigurationError: if it has no form that is dialled.
        """
        address = read_address(target, local=True)
        if address is None:
            raise ConfigurationError("bad-target", f"{target!r} is none of {FORMS}")
        endpoint = self._tcp(address.host, address.port, avoid)
        if address.kind is Transport.TCP:
            return endpoint
        within = TlsEndpoint(endpoint, self.tls, target, address.host)
        if address.kind is Transport.TLS:
            return within
        from gmesh.mesh.websocket import WebSocketClient  # with its library: most nodes dial none

        host = f"[{address.host}]" if ":" in address.host else address.host
        if address.port != HTTPS_PORT:
            host += f":{address.port}"
        return OpeningEndpoint(within, partial(WebSocketClient, host, address.path))

    def _tcp(self, host: str, port: int, avoid: Collection[str]) -> IStreamClientEndpoint:
        if "%" in host:  # which a resolver would drop, and with it the interface
            return TCP6ClientEndpoint(self._reactor, host, port, timeout=DIAL_DEADLINE)
        resolving = ElsewhereReactor(self._reactor, avoid) if avoid else self._reactor
        return HostnameEndpoint(resolving, host, port, timeout=DIAL_DEADLINE)


def client_endpoint(reactor: object, target: str, avoid: Collection[str] = ()) -> IStreamClientEndpoint:
    """As L{Carriers.endpoint}, with the roots of the system."""
    return Carriers(reactor, TlsTrust()).endpoint(target, avoid)
