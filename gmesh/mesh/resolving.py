# SPDX-License-Identifier: MIT
"""
Some of the addresses of a host: those that do not lead back to this node.

Twisted's C{HostnameEndpoint} tries all that the resolver of its reactor names; this is that reactor with a
resolver that leaves some out.  Tests: C{tests/mesh/test_dialler.py}.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
)
from zope.interface import implementer

__all__ = ["ElsewhereReactor"]


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


@implementer(IReactorPluggableNameResolver)
class ElsewhereReactor:
    """
    A reactor to which hosts do not have some of their addresses.

    @param reactor: does all else.
    @param avoid: the addresses, as text.
    """

    def __init__(self, reactor: Any, avoid: Collection[str]) -> None:
        self._reactor = reactor
        self.nameResolver: IHostnameResolver = _Resolver(reactor.nameResolver, avoid)

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """@see: C{IReactorPluggableNameResolver}; of the reactor behind this one."""
        before: IHostnameResolver = self._reactor.installNameResolver(resolver)
        return before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)
