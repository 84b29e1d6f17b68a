# SPDX-License-Identifier: MIT
"""Programs at real sockets of this host, and what they read, for tests of what stands between two of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
    connectProtocol,
)
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["Program", "Served", "connect", "serve"]


@implementer(IHalfCloseableProtocol)
class Program(Protocol):
    """
    A program with a socket.

    @ivar received: what it has read.
    @ivar ended: fires with all of it at the end of the file; fails if the connection breaks before.
    @ivar lost: fires with the reason once the connection is over.
    """

    transport: Any

    def __init__(self, said: Callable[[Program, bytes], object] = lambda program, data: None) -> None:
        self.received = b""
        self.ended: Deferred[bytes] = Deferred()
        self.lost: Deferred[BaseException | None] = Deferred()
        self._said = said
        self._awaited: list[tuple[int, Deferred[bytes]]] = []

    def until(self, size: int) -> Deferred[bytes]:
        """Fires with what was read once that is as many bytes as that."""
        waiting: Deferred[bytes] = Deferred()
        self._awaited.append((size, waiting))
        self._look()
        return waiting

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.received += data
        self._said(self, data)
        self._look()

    def _look(self) -> None:
        for pair in list(self._awaited):
            size, waiting = pair
            if len(self.received) >= size:
                self._awaited.remove(pair)
                waiting.callback(self.received)

    def readConnectionLost(self) -> None:
        """The end of the file."""
        self.ended.callback(self.received)

    def writeConnectionLost(self) -> None:
        """Half-closed."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Over."""
        if not self.ended.called:
            self.ended.addErrback(lambda _: None)
            self.ended.errback(reason)
        self.lost.callback(reason.value)


class Served:
    """
    A port that makes a protocol for each connection.

    @ivar address: where to connect: a port of loopback, or a path.
    @ivar made: the protocols made so far.
    """

    def __init__(self, port: Any, made: list[Any]) -> None:
        self._port = port
        self.made = made
        where = port.getHost()
        self.address: int | Path = where.port if hasattr(where, "port") else Path(where.name.decode())

    async def close(self) -> None:
        """Listen no more."""
        await self._port.stopListening()


async def serve(make: Callable[[], IProtocol], path: Path | None = None) -> Served:
    """Listen on a port of loopback, or at a path."""
    made: list[Any] = []

    def build() -> IProtocol:
        made.append(make())
        protocol: IProtocol = made[-1]
        return protocol

    endpoint = (
        TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        if path is None
        else UNIXServerEndpoint(reactor, str(path))
    )
    return Served(await endpoint.listen(Factory.forProtocol(build)), made)


async def connect(address: int | Path, program: Program | None = None) -> Program:
    """A program that has connected there."""
    endpoint = (
        TCP4ClientEndpoint(reactor, "127.0.0.1", address)
        if isinstance(address, int)
        else UNIXClientEndpoint(reactor, str(address))
    )
    connected: Program = await connectProtocol(endpoint, program or Program())
    return connected
