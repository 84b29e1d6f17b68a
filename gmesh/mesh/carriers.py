# SPDX-License-Identifier: MIT
"""
What carries a link to an address: plain TCP, TLS, a WebSocket in TLS; each directly or
through a proxy.

Tests: C{tests/mesh/test_carriers.py}, C{tests/mesh/test_dialler.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from twisted.internet.endpoints import HostnameEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IReactorThreads, IStreamClientEndpoint

from gmesh.errors import ConfigurationError
from gmesh.mesh.limits import DIAL_DEADLINE, NAMES_AT_ONCE, TOLD_NAMES_AT_ONCE
from gmesh.mesh.resolving import ElsewhereReactor, NamesApart
from gmesh.mesh.ways import Experience, Ways
from gmesh.trust.address_scope import ShunnedHosts
from gmesh.trust.transport_address import FORMS, HTTPS_PORT, Transport, TransportAddress, read_address
from gmesh.wire.proxy import DIRECT, Proxies

if TYPE_CHECKING:  # most nodes dial plain TCP alone, and can spare the memory of the rest
    from gmesh.mesh.tls import TlsTrust

__all__ = ["Carriers", "client_endpoint"]


class Carriers:
    """
    Makes the endpoints that a node dials with.

    @param tls: makes what is trusted under links, with the first address that needs it.
    @param proxies: those that lead to some hosts; these are tried directly too, but later.
    """

    def __init__(self, reactor: Any, tls: Callable[[], TlsTrust], proxies: Proxies | None = None) -> None:
        self._reactor = reactor
        self._make_tls = tls
        self._proxies = proxies or Proxies(DIRECT)
        self._experience = Experience()
        threads = IReactorThreads.providedBy(reactor)  # one in memory has none, and names of its own
        self._own_names = NamesApart(reactor, NAMES_AT_ONCE) if threads else None
        self._told_names = NamesApart(reactor, TOLD_NAMES_AT_ONCE) if threads else None

    @cached_property
    def tls(self) -> TlsTrust:
        """What is trusted under links. @raise ConfigurationError: if that cannot be read."""
        return self._make_tls()

    def endpoint(self, target: str, avoid: Collection[str] = ()) -> IStreamClientEndpoint:
        """
        The endpoint for an address: tries all that its host has in parallel (happy eyeballs, RFC 8305).

        @param avoid: addresses of its host that are not tried: they lead back to this node, or too near.
        @raise ConfigurationError: if it has no form that is dialled.
        """
        address = read_address(target, local=True)
        if address is None:
            raise ConfigurationError("bad-target", f"{target!r} is none of {FORMS}")
        direct = self._carried(self._tcp(address.host, address.port, avoid), target, address)
        proxy = self._proxies.choose(address.host, address.port)
        if proxy is None or address.host in avoid:
            return direct
        from gmesh.mesh.proxied import ProxiedEndpoint

        tunnelled = ProxiedEndpoint(self._reactor, proxy, address.host, address.port, DIAL_DEADLINE)
        ways = {f"via {proxy}": self._carried(tunnelled, target, address), "directly": direct}
        return Ways(self._reactor, target, ways, self._experience)

    def _carried(
        self, endpoint: IStreamClientEndpoint, target: str, address: TransportAddress
    ) -> IStreamClientEndpoint:
        if address.kind is Transport.TCP:
            return endpoint
        from gmesh.mesh.tls import TlsEndpoint

        within = TlsEndpoint(endpoint, self.tls, target, address.host)
        if address.kind is Transport.TLS:
            return within
        from gmesh.mesh.opening import OpeningEndpoint
        from gmesh.mesh.websocket import WebSocketClient

        host = f"[{address.host}]" if ":" in address.host else address.host
        if address.port != HTTPS_PORT:
            host += f":{address.port}"
        return OpeningEndpoint(within, partial(WebSocketClient, host, address.path))

    def _tcp(self, host: str, port: int, avoid: Collection[str]) -> IStreamClientEndpoint:
        if "%" in host:  # which a resolver would drop, and with it the interface
            return TCP6ClientEndpoint(self._reactor, host, port, timeout=DIAL_DEADLINE)
        names = self._told_names if isinstance(avoid, ShunnedHosts) else self._own_names
        plain = names is None and not avoid
        resolving = self._reactor if plain else ElsewhereReactor(self._reactor, avoid, names)
        return HostnameEndpoint(resolving, host, port, timeout=DIAL_DEADLINE)


def client_endpoint(reactor: object, target: str, avoid: Collection[str] = ()) -> IStreamClientEndpoint:
    """As L{Carriers.endpoint}, with the roots of the system."""
    from gmesh.mesh.tls import TlsTrust

    return Carriers(reactor, TlsTrust).endpoint(target, avoid)
