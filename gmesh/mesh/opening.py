# SPDX-License-Identifier: MIT
"""
What has to happen on a connection before the protocol on it begins: TLS, a proxy, a WebSocket.

An L{Opening} stands between a transport and a protocol, which is connected when the opening has come to
its end and not before; an L{OpeningEndpoint} is ready then.  Whoever waits hears why it failed.
Tests: C{tests/mesh/test_tls.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from gmesh.errors import CarrierRefused
from gmesh.interfaces import IPreparable

__all__ = ["Opening", "OpeningEndpoint", "OpeningFactory", "opened"]

_Opening = TypeVar("_Opening", bound="Opening")


@implementer(IPreparable)
class Opening(ProtocolWrapper):
    """
    One connection that has to be opened.

    @ivar opened: fires when the protocol has been connected, fails with why it will not be.
    """

    transport: Any
    hangs = CarrierRefused("timeout", "it took the connection and did not answer in time")
    """What is said when whoever waits has waited long enough."""

    def __init__(self, factory: Any, wrappedProtocol: IProtocol) -> None:
        super().__init__(factory, wrappedProtocol)
        self.upper = wrappedProtocol
        self.opened: Deferred[None] = Deferred(lambda _: self.fail(self.hangs))
        self._open = False

    # for those who derive

    def begin(self) -> None:
        """The transport is there."""

    def opening_received(self, data: bytes) -> None:
        """Bytes came before it is open."""
        raise NotImplementedError

    def open(self, rest: bytes = b"") -> None:
        """It is open; C{rest} came behind what opened it."""
        self._open = True
        self.connect_upper()
        self.opened.callback(None)
        if rest:
            self.dataReceived(rest)

    def connect_upper(self) -> None:
        """Give the protocol its transport."""
        self.wrappedProtocol.makeConnection(cast(ITransport, self))

    def fail(self, error: Exception) -> None:
        """It will never be open."""
        if not self.opened.called:
            self.opened.errback(Failure(error))
        if self.transport is not None:
            self.transport.abortConnection()

    # IPreparable

    def prepare(self) -> None:
        """The other end is waited for: whoever comes after this opening can use the time."""
        if IPreparable.providedBy(self.wrappedProtocol):
            self.wrappedProtocol.prepare()

    # IProtocol

    def makeConnection(self, transport: ITransport) -> None:
        """Begin; the protocol is connected later."""
        self.factory.registerProtocol(self)
        Protocol.makeConnection(self, transport)

    def connectionMade(self) -> None:
        """@see: L{begin}"""
        self.begin()

    def dataReceived(self, data: bytes) -> None:
        """To the protocol, once it is open."""
        if self._open:
            self.wrappedProtocol.dataReceived(data)
        elif not self.opened.called:
            self.opening_received(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """To the protocol if it was connected, else to who waits."""
        if self._open:
            super().connectionLost(reason)
            return
        self.factory.unregisterProtocol(self)
        if not self.opened.called:
            self.opened.errback(self.lost_early(reason))

    def lost_early(self, reason: Failure) -> Failure:
        """What is said when the connection ends before it was open."""
        return reason


class OpeningFactory(WrappingFactory):
    """
    Puts an opening before each protocol of a factory.

    @param wrapped: builds the protocols.
    @param make: the opening for a protocol, given this factory.
    """

    noisy = False

    def __init__(self, wrapped: IProtocolFactory, make: Callable[[Any, IProtocol], _Opening]) -> None:
        super().__init__(wrapped)
        self.protocol = make


@implementer(IStreamClientEndpoint)
class OpeningEndpoint:
    """
    Connects, opens, and is done when the protocol has been connected.

    @param inner: the endpoint below, whose result is the opening.
    @param make: as of L{OpeningFactory}.
    """

    def __init__(self, inner: IStreamClientEndpoint, make: Callable[[Any, IProtocol], Opening]) -> None:
        self._inner = inner
        self._make = make

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """@see: C{IStreamClientEndpoint.connect}"""
        connecting: Deferred[Any] = self._inner.connect(OpeningFactory(protocolFactory, self._make))
        return connecting.addCallback(opened)


def opened(opening: Opening) -> Deferred[IProtocol]:
    """Fires with the protocol of an opening when that has been connected."""
    upper = opening.upper
    return opening.opened.addCallback(lambda _: upper)
