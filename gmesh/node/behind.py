# SPDX-License-Identifier: MIT
"""
One port for links and for a web server: what is no link is passed on to a unix socket, byte for byte.

The other program is told whose connection it is by a PROXY header, version 2 (HAProxy's
C{doc/proxy-protocol.txt}, section 2.2), and bounds what a connection may cost, as without a node before it.
Tests: C{tests/node/test_behind.py}.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, ip_address
from typing import Any

from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from gmesh.mesh.websocket import WebSocketServer
from gmesh.node.limits import BEHIND_CONNECTIONS, CONNECT_TIMEOUT

__all__ = ["Behind", "proxy_header"]

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_PROXY, _LOCAL = 0x21, 0x20
"""Version 2, and whether the connection is somebody else's."""
_TCP4, _TCP6 = 0x11, 0x21
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_ABSENT = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def proxy_header(peer: IAddress, host: IAddress) -> bytes:
    """The header for a connection from C{peer} to C{host}; of nobody's, if they have no IP addresses."""
    try:
        source, target = (
            ip_address(str(getattr(each, "host", "")).partition("%")[0]) for each in (peer, host)
        )
    except ValueError:
        return _SIGNATURE + bytes((_LOCAL, 0, 0, 0))
    ports = struct.pack(">HH", *(int(getattr(each, "port", 0)) for each in (peer, host)))
    if isinstance(source, IPv4Address) and isinstance(target, IPv4Address):
        kind, addresses = _TCP4, source.packed + target.packed
    else:
        kind = _TCP6
        addresses = b"".join(
            each.packed if each.version == 6 else socket.inet_pton(socket.AF_INET6, f"::ffff:{each}")
            for each in (source, target)
        )
    body = addresses + ports
    return _SIGNATURE + bytes((_PROXY, kind)) + struct.pack(">H", len(body)) + body


class Behind:
    """
    Takes connections that are no links.

    @param path: of the unix socket.
    @ivar open: how many there are.
    """

    def __init__(self, reactor: Any, path: str) -> None:
        self._endpoint = UNIXClientEndpoint(reactor, path, timeout=CONNECT_TIMEOUT)
        self.open = 0

    def __call__(self, server: WebSocketServer, data: bytes) -> None:
        """@see: L{WebSocketServer}: all that was read so far, and the connection."""
        if self.open >= BEHIND_CONNECTIONS:
            server.answer(_BUSY)
            return
        self.open += 1
        server.leave_mesh()
        front = _Front(self, server)
        server.receiver = front
        server.transport.pauseProducing()
        begin = proxy_header(server.getPeer(), server.getHost()) + data
        connecting = self._endpoint.connect(Factory.forProtocol(lambda: _Back(front, begin)))
        connecting.addCallbacks(front.joined, lambda failure: front.absent())


class _Front(Protocol):
    """The end of whoever has connected to the node."""

    def __init__(self, behind: Behind, server: WebSocketServer) -> None:
        self._behind = behind
        self._server = server
        self._back: _Back | None = None
        self._early: list[bytes] = []
        self._lost = False

    def joined(self, back: IProtocol) -> None:
        assert isinstance(back, _Back)
        if self._lost:
            back.end()
            return
        self._back = back
        back.below.writeSequence(self._early)
        self._early.clear()
        below = self._server.transport
        below.registerProducer(back.transport, True)
        back.below.registerProducer(below, True)
        below.resumeProducing()

    def absent(self) -> None:
        if not self._lost:
            self._server.transport.resumeProducing()
            self._server.answer(_ABSENT)

    def write(self, data: bytes) -> None:
        """From the program behind."""
        if not self._lost:
            self._server.transport.write(data)

    def back_ended(self) -> None:
        """The program behind has closed: once all is written, so do we."""
        self._back = None
        if not self._lost:
            self._server.transport.unregisterProducer()
            self._server.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        if self._back is not None:
            self._back.below.write(data)
        else:  # of a read that TLS had not handed over whole when reading was paused
            self._early.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = True
        self._behind.open -= 1
        back, self._back = self._back, None
        if back is not None:
            back.end()


class _Back(Protocol):
    """The end of the program behind."""

    def __init__(self, front: _Front, begin: bytes) -> None:
        self._front = front
        self._begin = begin

    @property
    def below(self) -> Any:
        """Its transport."""
        return self.transport

    def connectionMade(self) -> None:
        self.below.write(self._begin)
        self._begin = b""

    def end(self) -> None:
        """Nobody is at the other end any more."""
        self.below.unregisterProducer()
        self.below.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self._front.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._front.back_ended()
