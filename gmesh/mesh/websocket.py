# SPDX-License-Identifier: MIT
"""
A link inside a WebSocket (RFC 6455): the bytes of the stream in binary messages, wherever these are cut.

C{wsproto} knows the protocol; nothing is compressed, for nothing that is sealed becomes smaller.  The
subprotocol C{gmesh} tells these from other WebSockets of the same web server, whatever their path.
Tests: C{tests/mesh/test_websocket.py}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import ip_address
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IProtocolNegotiationFactory,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError
from zope.interface import implementer

from gmesh.errors import CarrierRefused
from gmesh.mesh.opening import Opening

__all__ = ["HEAD_LIMIT", "SUBPROTOCOL", "WebSocketClient", "WebSocketServer", "WebSocketServerEndpoint"]

SUBPROTOCOL: Final = "gmesh"
HEAD_LIMIT: Final = 16_384
"""Bytes of a request's head: as h11 takes of an answer's."""
PINGS_AT_ONCE: Final = 32
"""In what is read at once: of one more the connection ends.  Web servers send one in many seconds."""
PONGS_AHEAD: Final = 4
"""Between two messages of ours, so that who does not read fills no buffer; the newest ping waits for one."""
_NOT_FOUND: Final = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class _Framed(ProtocolWrapper):
    """What both ends do once the WebSocket is there."""

    layer = "websocket"
    transport: Any
    web: WSConnection
    _ping: Ping | None = None
    _pongs = 0

    def write(self, data: bytes) -> None:
        """One message."""
        if self.web.state is ConnectionState.OPEN:
            if self._ping is not None:
                self._answer(self._ping)
            self._pongs = 0
            self.transport.write(bytes(self.web.send(BytesMessage(data))))

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """One message."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Say so, then close."""
        self._say_goodbye()
        super().loseConnection()

    def _say_goodbye(self) -> None:
        if self.web.state is ConnectionState.OPEN:
            self.transport.write(bytes(self.web.send(CloseConnection(1000))))

    def frames_received(self, data: bytes) -> None:
        """Bytes of frames; what is in messages goes on."""
        try:
            self.web.receive_data(data)
            self.take_events()
        except (RemoteProtocolError, LocalProtocolError):
            self.transport.abortConnection()

    def take_events(self) -> None:
        """What C{wsproto} has made of them."""
        messages = []
        pings = 0
        for event in self.web.events():
            if isinstance(event, BytesMessage):
                messages.append(event.data)
            elif isinstance(event, Ping):
                self._ping = event  # the newest answers for all (RFC 6455, 5.5.3)
                pings += 1
                if pings > PINGS_AT_ONCE:
                    self.transport.abortConnection()
                    return
            elif isinstance(event, CloseConnection | TextMessage):
                if self.web.state is ConnectionState.REMOTE_CLOSING and isinstance(event, CloseConnection):
                    self.transport.write(bytes(self.web.send(event.response())))
                self.transport.loseConnection()
                break
        if self._ping is not None and self._pongs < PONGS_AHEAD and self.web.state is ConnectionState.OPEN:
            self._answer(self._ping)
        if messages and self.wrappedProtocol is not None:
            self.wrappedProtocol.dataReceived(b"".join(messages) if len(messages) > 1 else bytes(messages[0]))

    def _answer(self, ping: Ping) -> None:
        self._ping = None
        self._pongs += 1
        self.transport.write(bytes(self.web.send(ping.response())))


class WebSocketClient(_Framed, Opening):
    """
    The end that dials: open when the server has agreed.

    @param host: as C{Host} of the request has it, with the port if that is not the scheme's.
    @param path: of the request.
    """

    hangs = CarrierRefused("web-server", "the web server took the request for a WebSocket and did not answer")

    def __init__(self, host: str, path: str, factory: Any, upper: IProtocol) -> None:
        super().__init__(factory, upper)
        self._host = host
        self._path = path
        self.web = WSConnection(ConnectionType.CLIENT)

    def begin(self) -> None:
        """@see: L{Opening.begin}"""
        request = Request(host=self._host, target=self._path, subprotocols=[SUBPROTOCOL])
        self.transport.write(bytes(self.web.send(request)))

    def opening_received(self, data: bytes) -> None:
        """@see: L{Opening.opening_received}"""
        try:
            self.web.receive_data(data)
            answer = next(self.web.events(), None)
        except (RemoteProtocolError, LocalProtocolError):
            self._refused("what answers is no web server with a WebSocket for gmesh")
            return
        if isinstance(answer, AcceptConnection):
            if answer.subprotocol != SUBPROTOCOL:
                self._refused("the WebSocket is another program's")
                return
            self.open()
            self.take_events()
        elif isinstance(answer, RejectConnection):
            self._refused(f"the web server answers {answer.status_code} and gives no WebSocket")

    def dataReceived(self, data: bytes) -> None:
        """Frames, once it is open."""
        if self._open:
            self.frames_received(data)
        else:
            super().dataReceived(data)

    def lost_early(self, reason: Failure) -> Failure:
        """@see: L{Opening.lost_early}"""
        return Failure(CarrierRefused("web-server", "the web server closed the connection without an answer"))

    def _refused(self, why: str) -> None:
        self.fail(CarrierRefused("web-server", f"{why}: see its path {self._path}"))


class WebSocketServer(_Framed):
    """
    The end that listens: what is above is connected from the start, and takes its place among strangers.

    @param others: is given what asks for no WebSocket of ours: this protocol and all that it has read.
    """

    def __init__(
        self, others: Callable[[WebSocketServer, bytes], None], factory: Any, wrapped: IProtocol
    ) -> None:
        super().__init__(factory, wrapped)
        self.web = WSConnection(ConnectionType.SERVER)
        self._head: bytes | None = b""
        self._others = others
        self._forwarded = ""
        self._left = False
        self.receiver: IProtocol | None = None

    def getPeer(self) -> IAddress:
        """Whose connection a web server on this host says it is (C{X-Forwarded-For}); else the peer."""
        peer: IAddress = super().getPeer()
        if not self._forwarded:
            return peer
        kind = IPv6Address if ":" in self._forwarded else IPv4Address
        return kind("TCP", self._forwarded, 0)

    def dataReceived(self, data: bytes) -> None:
        """The head of a request, then frames."""
        if self.receiver is not None:
            self.receiver.dataReceived(data)
        elif self._head is None:
            self.frames_received(data)
        else:
            self._head += data
            if b"\r\n\r\n" in self._head:
                head, self._head = self._head, None
                self._decide(head)
            elif len(self._head) > HEAD_LIMIT:
                self.answer(_BAD_REQUEST)

    def _decide(self, data: bytes) -> None:
        headers = _headers(data)
        ours = SUBPROTOCOL in _words(headers, "sec-websocket-protocol")
        if not ours or "websocket" not in _words(headers, "upgrade"):
            self._others(self, data)
            return
        try:
            head, end, rest = data.partition(b"\r\n\r\n")
            self.web.receive_data(head + end)
            self.transport.write(bytes(self.web.send(AcceptConnection(subprotocol=SUBPROTOCOL))))
            if _is_here(self.transport.getPeer()):
                self._forwarded = _last_address(headers)
            self.frames_received(rest)
        except (RemoteProtocolError, LocalProtocolError):
            self.answer(_BAD_REQUEST)

    def answer(self, data: bytes = _NOT_FOUND) -> None:
        """Say this instead, and close."""
        self._head = None
        self.leave_mesh()
        self.transport.write(data)
        self.transport.loseConnection()

    def leave_mesh(self) -> None:
        """It is no connection of the mesh: its place there is free."""
        if not self._left:
            self._left = True
            self.wrappedProtocol.connectionLost(Failure(ConnectionDone()))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """To whoever has it."""
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            receiver.connectionLost(reason)
        if self._left:
            self.factory.unregisterProtocol(self)
        else:
            super().connectionLost(reason)


def _nobody(server: WebSocketServer, data: bytes) -> None:
    server.answer()


@implementer(IProtocolNegotiationFactory)
class _ServerFactory(WrappingFactory):
    noisy = False

    def __init__(self, wrapped: IProtocolFactory, others: Callable[[WebSocketServer, bytes], None]) -> None:
        super().__init__(wrapped)
        self.protocol = partial(WebSocketServer, others)

    def acceptableProtocols(self) -> list[bytes]:
        """For those that ask by ALPN (RFC 7301), as web browsers and their like do."""
        return [b"http/1.1"]


@implementer(IStreamServerEndpoint)
class WebSocketServerEndpoint:
    """
    Serves WebSockets over what another endpoint serves.

    @param inner: that endpoint.
    @param others: as of L{WebSocketServer}; without it, what else is asked for is not found.
    """

    def __init__(
        self, inner: IStreamServerEndpoint, others: Callable[[WebSocketServer, bytes], None] = _nobody
    ) -> None:
        self.inner = inner
        self._others = others

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """@see: C{IStreamServerEndpoint.listen}"""
        return self.inner.listen(_ServerFactory(protocolFactory, self._others))


def _headers(data: bytes) -> list[tuple[str, str]]:
    """Names in lower case, and values, of the head of a request."""
    lines = data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines)
    return [(name.lower(), value.strip()) for name, colon, value in pairs if colon]


def _words(headers: list[tuple[str, str]], name: str) -> list[str]:
    text = ",".join(value for found, value in headers if found == name)
    return [word.strip().lower() for word in text.split(",")]


def _is_here(peer: IAddress) -> bool:
    if isinstance(peer, UNIXAddress):
        return True
    host = str(getattr(peer, "host", ""))
    return host == "::1" or host.startswith("127.")


def _last_address(headers: list[tuple[str, str]]) -> str:
    """The last that C{X-Forwarded-For} names, which the nearest web server wrote."""
    last = _words(headers, "x-forwarded-for")[-1].strip("[]")
    try:
        return str(ip_address(last))
    except ValueError:
        return ""
