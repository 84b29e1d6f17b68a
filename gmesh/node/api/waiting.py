# SPDX-License-Identifier: MIT
"""
A program's connection between the head that asks for a stream and the stream, or the refusal.

What the program sends meanwhile is kept, a buffer full of it; more waits in the socket.
Tests: C{tests/node/api/test_waiting.py}, C{tests/node/api/test_stream_requests.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gmesh.daemon.web import refusal
from gmesh.errors import GmeshError, RequestRefused
from gmesh.node.api.http import status_of
from gmesh.node.limits import EARLY_BYTES
from gmesh.stream_errors import DialRefused

__all__ = ["Waiting", "hand_over"]


def hand_over(transport: Any, protocol: IProtocol) -> None:
    """
    Let C{protocol} have a connection from now on, with nothing of the one before it left in the path.

    @param transport: of a socket, or of TLS over one.
    """
    if hasattr(transport, "wrappedProtocol"):
        transport.wrappedProtocol = protocol
    else:
        transport.protocol = protocol
    protocol.makeConnection(transport)


@implementer(IHalfCloseableProtocol)
class Waiting(Protocol):
    """
    Waits for a stream.

    @param ask: called with this once there is a connection.
    @param half_closes: an end of what the program sends is one of the stream; else the program has gone.
    @ivar leave: called if the program goes before the stream comes.
    @ivar given: called with the protocol that has the connection then.
    """

    transport: Any

    def __init__(self, ask: Callable[[Waiting], None], half_closes: bool) -> None:
        self._ask = ask
        self._half_closes = half_closes
        self._early = bytearray()
        self._paused = self._ended = self._over = False
        self.leave: Callable[[], object] = lambda: None
        self.given: Callable[[IProtocol], object] = lambda protocol: None

    def connectionMade(self) -> None:
        """Ask for the stream."""
        self._ask(self)

    def dataReceived(self, data: bytes) -> None:
        """Keep what comes early."""
        if self._over:
            return
        self._early += data
        if len(self._early) > EARLY_BYTES and not self._paused:
            self._paused = True
            self.transport.pauseProducing()

    def readConnectionLost(self) -> None:
        """The program sends no more, or has gone."""
        self._ended = True
        if not self._half_closes:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Nobody asks for it."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The program has gone, unless all was said."""
        self._leave()

    def goes_on(self, head: bytes) -> None:
        """Tell the program that it waits (RFC 9110, section 15.2)."""
        self.transport.write(head)

    def refuse_for(self, error: GmeshError | DialRefused) -> None:
        """There will be no stream."""
        if not self._over:
            self._over = True
            self.transport.write(refusal(status_of(error), error.reason, error.detail))
            self.transport.loseConnection()

    def forbidden(self, error: RequestRefused) -> None:
        """The program may not wait any longer."""
        leave = not self._over
        self.refuse_for(error)
        if leave:
            self.leave()

    def give(self, protocol: IProtocol, head: bytes) -> None:
        """The stream is there: say so, and let C{protocol} have the connection, and what came early."""
        self._over = True
        self.transport.write(head)
        if self._paused:
            self.transport.resumeProducing()
        hand_over(self.transport, protocol)
        self.given(protocol)
        early, self._early = bytes(self._early), bytearray()
        if early:
            protocol.dataReceived(early)
        if self._ended:
            IHalfCloseableProtocol(protocol).readConnectionLost()

    def _leave(self) -> None:
        if not self._over:
            self._over = True
            self.leave()
