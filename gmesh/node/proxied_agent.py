# SPDX-License-Identifier: MIT
"""
HTTP requests through a proxy: C{https://} in a tunnel, C{http://} as requests to the proxy itself.

A proxy that is not reached is passed over, for the host may have moved to where there is none.
Tests: C{tests/node/test_proxied_agent.py}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool, ProxyAgent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from gmesh.mesh.proxied import ProxiedEndpoint, proxy_endpoint
from gmesh.mesh.ways import Experience, Ways
from gmesh.node.limits import CONNECT_TIMEOUT
from gmesh.wire.proxy import Proxies, ProxyAddress, ProxyKind

__all__ = ["ProxiedAgent"]


@implementer(IAgentEndpointFactory)
class _Endpoints:
    def __init__(self, reactor: Any, proxies: Proxies) -> None:
        self._reactor = reactor
        self._proxies = proxies
        self._policy = BrowserLikePolicyForHTTPS()
        self._experience = Experience()

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        host, port = uri.host.decode("ascii"), uri.port
        plain = uri.scheme == b"http"
        endpoint: IStreamClientEndpoint = HostnameEndpoint(self._reactor, host, port, timeout=CONNECT_TIMEOUT)
        proxy = self._proxies.choose(host, port, plain)
        if proxy is not None and not (plain and proxy.kind is not ProxyKind.SOCKS5):
            tunnelled = ProxiedEndpoint(self._reactor, proxy, host, port, CONNECT_TIMEOUT)
            ways = {f"via {proxy}": tunnelled, "directly": endpoint}
            endpoint = Ways(self._reactor, f"{host}:{port}", ways, self._experience)
        return endpoint if plain else wrapClientTLS(self._policy.creatorForNetloc(uri.host, port), endpoint)


@implementer(IAgent)
class ProxiedAgent:
    """
    Makes requests as C{twisted.web.client.Agent} does, through proxies where they are to be used.

    @param pool: makes the connections.
    """

    def __init__(self, reactor: Any, proxies: Proxies, pool: HTTPConnectionPool) -> None:
        self._reactor = reactor
        self._proxies = proxies
        self._pool = pool
        self._agent = Agent.usingEndpointFactory(reactor, _Endpoints(reactor, proxies), pool)

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """@see: C{IAgent.request}"""
        asked = URI.fromBytes(uri)
        proxy = None
        if asked.scheme == b"http":
            proxy = self._proxies.choose(asked.host.decode("ascii"), asked.port, plain_http=True)

        def directly(failure: Failure) -> Deferred[IResponse]:
            failure.trap(ConnectError, DNSLookupError)
            again: Deferred[IResponse] = self._agent.request(method, uri, headers, bodyProducer)
            return again

        if proxy is None or proxy.kind is ProxyKind.SOCKS5:
            answering: Deferred[IResponse] = self._agent.request(method, uri, headers, bodyProducer)
            return answering
        endpoint = proxy_endpoint(self._reactor, proxy, CONNECT_TIMEOUT)
        through = ProxyAgent(endpoint, self._reactor, self._pool)
        answering = through.request(method, uri, _authorized(headers, proxy), bodyProducer)
        return answering.addErrback(directly)


def _authorized(headers: Headers | None, proxy: ProxyAddress) -> Headers:
    with_credentials = headers.copy() if headers is not None else Headers()
    if proxy.authorization:
        with_credentials.setRawHeaders(b"Proxy-Authorization", [proxy.authorization.encode("ascii")])
    return with_credentials
