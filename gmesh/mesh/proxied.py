# SPDX-License-Identifier: MIT
"""
Connections through an HTTP or SOCKS5 proxy.

Tests: C{tests/mesh/test_proxied.py}.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure
from zope.interface import implementer

from gmesh.errors import CarrierRefused
from gmesh.mesh.opening import Opening, OpeningEndpoint
from gmesh.wire.proxy import ProxyAddress, ProxyKind
from gmesh.wire.tunnel import tunnel

__all__ = ["ProxiedEndpoint", "Tunnelled", "proxy_endpoint"]


class Tunnelled(Opening):
    """
    Opens when the proxy has connected us.

    @ivar via: the proxy, for people.
    """

    def __init__(self, proxy: ProxyAddress, host: str, port: int, factory: Any, upper: IProtocol) -> None:
        super().__init__(factory, upper)
        self.via = str(proxy)
        self.hangs = CarrierRefused(
            "proxy-failed", f"the proxy {proxy} took the connection and did not answer in time"
        )
        self._talk = tunnel(proxy, host, port)
        self._peer = IPv4Address("TCP", host, port)

    def getPeer(self) -> IAddress:
        """The host that was asked for: the proxy is not who is there."""
        return self._peer

    def begin(self) -> None:
        """@see: L{Opening.begin}"""
        self.transport.write(next(self._talk))

    def opening_received(self, data: bytes) -> None:
        """@see: L{Opening.opening_received}"""
        try:
            more = self._talk.send(data)
        except StopIteration as done:
            self.open(done.value)
        except CarrierRefused as refused:
            self.fail(refused)
        else:
            if more:
                self.transport.write(more)

    def lost_early(self, reason: Failure) -> Failure:
        """@see: L{Opening.lost_early}"""
        return Failure(CarrierRefused("proxy-failed", f"the proxy {self.via} closed without an answer"))


def proxy_endpoint(reactor: object, proxy: ProxyAddress, timeout: float) -> IStreamClientEndpoint:
    """
    Connects to the proxy itself: in TLS, which has to be right, if its URL says so.

    @param timeout: seconds for the TCP connection.
    """
    endpoint = HostnameEndpoint(reactor, proxy.host, proxy.port, timeout=timeout)
    if proxy.kind is ProxyKind.HTTPS:
        secured: IStreamClientEndpoint = wrapClientTLS(optionsForClientTLS(proxy.host), endpoint)
        return secured
    return endpoint


@implementer(IStreamClientEndpoint)
class ProxiedEndpoint:
    """
    Connects to a host through a proxy, which looks its name up.

    @param timeout: seconds for the connection to the proxy; whoever connects bounds the whole.
    """

    def __init__(self, reactor: object, proxy: ProxyAddress, host: str, port: int, timeout: float) -> None:
        self._proxy = proxy
        self._endpoint = OpeningEndpoint(
            proxy_endpoint(reactor, proxy, timeout), partial(Tunnelled, proxy, host, port)
        )

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """@see: C{IStreamClientEndpoint.connect}"""
        return self._endpoint.connect(protocolFactory).addErrback(self._unreachable)

    def _unreachable(self, failure: Failure) -> Failure:
        if failure.check(CarrierRefused):
            return failure
        why = failure.getErrorMessage() or type(failure.value).__name__
        return Failure(CarrierRefused("proxy-failed", f"the proxy {self._proxy} is not reached: {why}"))
