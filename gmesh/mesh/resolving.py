# SPDX-License-Identifier: MIT
"""
Some of the addresses of a host: those that do not lead back to this node; and names that are never found.

Twisted's C{HostnameEndpoint} tries all that the resolver of its reactor names; this is that reactor with a
resolver that leaves some out.  Names are looked up in threads, and one that no server answers holds its
thread long after the dial was given up: so those that others told have threads apart from the rest, few may
wait for one, and an IP address, for which Twisted asks the system as well, needs none.
Tests: C{tests/mesh/test_dialler.py}, C{tests/mesh/test_resolving.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from ipaddress import IPv4Address, ip_address
from socket import getaddrinfo
from typing import Any

from twisted.internet._resolver import GAIResolver, HostResolution
from twisted.internet.address import IPv4Address as TCP4Address
from twisted.internet.address import IPv6Address as TCP6Address
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
)
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

__all__ = ["WAITING", "ElsewhereReactor", "NamesApart"]

WAITING = 4
"""Look-ups of each thread, with the one under way."""


@implementer(IResolutionReceiver)
class _Filter:
    def __init__(self, receiver: IResolutionReceiver, avoid: Collection[str]) -> None:
        self._receiver = receiver
        self._avoid = avoid

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self._receiver.resolutionBegan(resolutionInProgress)

    def addressResolved(self, address: IAddress) -> None:
        if getattr(address, "host", None) not in self._avoid:
            self._receiver.addressResolved(address)

    def resolutionComplete(self) -> None:
        self._receiver.resolutionComplete()


@implementer(IHostnameResolver)
class _Resolver:
    def __init__(self, inner: IHostnameResolver, avoid: Collection[str]) -> None:
        self._inner = inner
        self._avoid = avoid

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        receiver = _Filter(resolutionReceiver, self._avoid)
        return self._inner.resolveHostName(receiver, hostName, portNumber, addressTypes, transportSemantics)


@implementer(IHostnameResolver)
class NamesApart:
    """
    Looks names up in threads of its own, which begin with the first one.

    @param reactor: stops them.
    @param threads: so many at once; as many again may wait for each, and more are not found.
    @param look_up: C{socket.getaddrinfo}.
    """

    def __init__(self, reactor: Any, threads: int, look_up: Callable[..., Any] = getaddrinfo) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(0, threads, "names")
        self._most = WAITING * threads
        self._begun = 0
        self._inner = GAIResolver(reactor, lambda: self._pool, look_up)

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """@see: C{IHostnameResolver}"""
        literal = _literal(hostName, portNumber)
        if literal is not None:
            found = HostResolution(hostName)
            resolutionReceiver.resolutionBegan(found)
            resolutionReceiver.addressResolved(literal)
            resolutionReceiver.resolutionComplete()
            return found
        if self._begun >= self._most:
            nothing = HostResolution(hostName)
            resolutionReceiver.resolutionBegan(nothing)
            resolutionReceiver.resolutionComplete()
            return nothing
        self._begun += 1
        if not self._pool.started:
            self._pool.start()
            self._reactor.addSystemEventTrigger("during", "shutdown", self._pool.stop)
        resolution: IHostResolution = self._inner.resolveHostName(
            _Counted(resolutionReceiver, self._ended), hostName, portNumber, addressTypes, transportSemantics
        )
        return resolution

    def _ended(self) -> None:
        self._begun -= 1


@implementer(IResolutionReceiver)
class _Counted:
    def __init__(self, receiver: IResolutionReceiver, ended: Callable[[], None]) -> None:
        self._receiver = receiver
        self._ended = ended

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self._receiver.resolutionBegan(resolutionInProgress)

    def addressResolved(self, address: IAddress) -> None:
        self._receiver.addressResolved(address)

    def resolutionComplete(self) -> None:
        self._ended()
        self._receiver.resolutionComplete()


def _literal(host: str, port: int) -> IAddress | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    kind = TCP4Address if isinstance(address, IPv4Address) else TCP6Address
    return kind("TCP", host, port)


@implementer(IReactorPluggableNameResolver)
class ElsewhereReactor:
    """
    A reactor to which hosts do not have some of their addresses.

    @param reactor: does all else.
    @param avoid: the addresses, as text.
    @param names: looks the others up, instead of the reactor's own resolver.
    """

    def __init__(self, reactor: Any, avoid: Collection[str], names: IHostnameResolver | None = None) -> None:
        self._reactor = reactor
        self.nameResolver: IHostnameResolver = _Resolver(names or reactor.nameResolver, avoid)

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """@see: C{IReactorPluggableNameResolver}; of the reactor behind this one."""
        before: IHostnameResolver = self._reactor.installNameResolver(resolver)
        return before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)
