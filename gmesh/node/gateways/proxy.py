# SPDX-License-Identifier: MIT
"""
The proxy for programs of this host: SOCKS 5, HTTP CONNECT, and requests in absolute form, to nodes by name.

It leads into the mesh and nowhere else.  Whoever may use it may dial whatever this node may: over a unix
socket that takes what C{write} takes on the local API; over TCP every user of this host may, for the kernel
does not say who they are.
Tests: C{tests/node/gateways/test_proxy.py}, C{tests/live/test_streams_by_programs.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from gmesh.errors import RequestRefused
from gmesh.interfaces import IStreams
from gmesh.mesh.spaced_log import SpacedLog
from gmesh.node.api.access import peer_credentials
from gmesh.node.gateways import http_requests
from gmesh.node.gateways.names import read_host
from gmesh.node.gateways.socks5 import VERSION, Reply, Socks5
from gmesh.node.http_head import END
from gmesh.node.limits import MAX_PROXIED
from gmesh.stream_errors import DialRefused
from gmesh.streams.join import TransportJoin

__all__ = ["HEAD_TIMEOUT", "MAX_WAITING", "ProxyFactory"]

HEAD_TIMEOUT: Final = 10.0
"""Seconds in which a program must have said where to."""
LINGER: Final = 2.0
"""Seconds in which what a program still sends is dropped, so that it can read why it is refused."""
MAX_WAITING: Final = 512
"""Connections that lead nowhere yet."""


class ProxyFactory(Factory):
    """
    Serves a port of the proxy.

    @param admit: raises C{RequestRefused} if whoever is at the other end of a transport may not dial.
    @param anyone: says whether other hosts may, where the port lets them.
    @param joins: of all ports, the connections that lead somewhere or are about to.
    @param count: counts a cause.
    @ivar waiting: connections that lead nowhere yet.
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        clock: Any,
        streams: IStreams,
        admit: Callable[[Any], object] = lambda transport: None,
        anyone: Callable[[], bool] = lambda: False,
        joins: set[TransportJoin] | None = None,
        count: Callable[[str], object] = lambda cause: None,
    ) -> None:
        self.joins = set() if joins is None else joins
        self._count = count
        self._lines = SpacedLog()
        self.clock = clock
        self.streams = streams
        self.admit = admit
        self.anyone = anyone
        self.waiting: set[ProxyConnection] = set()

    def buildProtocol(self, addr: IAddress | None) -> ProxyConnection | None:
        """One connection; None for another host that may not, and where too many wait."""
        if isinstance(addr, IPv4Address | IPv6Address):
            host = ip_address(addr.host.partition("%")[0])
            mapped = getattr(host, "ipv4_mapped", None) or host
            if not (mapped.is_loopback or self.anyone()):
                return None
        if len(self.waiting) < MAX_WAITING:
            return ProxyConnection(self)
        self._full(f"{MAX_WAITING} connections of a port of the proxy lead nowhere yet")
        return None

    def reserve(self, local: str) -> TransportJoin:
        """
        Room for one more that leads somewhere, until it is over.

        @param local: for whom.
        @raise RequestRefused: C{busy}, if there is none.
        """
        if len(self.joins) >= MAX_PROXIED:
            raise self._full(f"programs have {MAX_PROXIED} connections through the proxy already")
        join = TransportJoin(self.clock, lambda: self.joins.discard(join), local)
        self.joins.add(join)
        return join

    def _full(self, why: str) -> RequestRefused:
        self._count("proxy-full")
        self._lines.write(self._log.warn, self.clock.seconds(), "full", None, "{cause}: no more", cause=why)
        return RequestRefused("busy", why)

    def doStop(self) -> None:
        """The port is closed: what leads nowhere is not waited for."""
        super().doStop()
        if not self.numPorts:
            for connection in list(self.waiting):
                connection.transport.abortConnection()


class ProxyConnection(Protocol):
    """One program, until its connection is joined to a stream."""

    transport: Any

    def __init__(self, factory: ProxyFactory) -> None:
        self._factory = factory
        self._held = b""
        self._said = False  # where to, or it is refused
        self._socks: Socks5 | None = None
        self._deadline: IDelayedCall | None = None
        self._dialling: Deferred[Any] | None = None

    def connectionMade(self) -> None:
        """Wait for the first bytes, for a while."""
        self._factory.waiting.add(self)
        self._deadline = self._factory.clock.callLater(HEAD_TIMEOUT, self._late)

    def dataReceived(self, data: bytes) -> None:
        """Collect what says where to; the first byte tells SOCKS from HTTP."""
        if self._said:
            return
        if self._socks is not None or (not self._held and data[0] == VERSION):
            self._fed(data)
            return
        self._held += data
        head, end, rest = self._held.partition(END)
        if len(head) > http_requests.MAX_HEAD:
            self._end(http_requests.answer(431, f"a head has at most {http_requests.MAX_HEAD} bytes\n"))
        elif end:
            try:
                self._asked(http_requests.read_request(head), rest)
            except RequestRefused as error:
                self._refuse(error.reason, error.detail)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The program has gone."""
        self.connected = 0
        self._cancel()
        self._factory.waiting.discard(self)
        if self._dialling is not None:
            self._dialling.cancel()

    def _fed(self, data: bytes) -> None:
        if self._socks is None:
            self._socks = Socks5()
        answer = self._socks.feed(data)
        if self._socks.over:
            self._end(answer)
            return
        self.transport.write(answer)
        if self._socks.asked is not None:
            self._dial(*self._socks.asked, Reply.SUCCEEDED.encode(), self._socks.rest)

    def _asked(self, request: http_requests.ProxyRequest, rest: bytes) -> None:
        if request.host:
            connected = b"" if request.head else http_requests.CONNECTED
            self._dial(request.host, request.port, connected, request.head + rest)
            return
        here = self.transport.getHost()
        if not isinstance(here, IPv4Address | IPv6Address):
            raise RequestRefused("not-found", "browsers cannot use a unix socket, only a port of loopback")
        script = http_requests.pac(here.host, here.port)
        self._end(http_requests.answer(200, script, http_requests.PAC_TYPE))

    def _dial(self, host: str, port: int, connected: bytes, first: bytes) -> None:
        """
        Open the stream.

        @param connected: what the program is told once it is open.
        @param first: what goes into it first.
        """
        try:
            self._factory.admit(self.transport)
            node, service = read_host(host, port)
            credentials = peer_credentials(self.transport)
            join = self._factory.reserve(
                "proxy" if credentials is None else f"proxy for {credentials.process}"
            )
        except RequestRefused as error:
            self._refuse(error.reason, error.detail)
            return
        self._cancel()
        self._said = True
        self.transport.pauseProducing()
        self._dialling = self._factory.streams.dial(node, service, lambda peer: join.far)
        self._dialling.addCallbacks(
            lambda _: self._join(join, connected, first), lambda failure: self._failed(failure, join)
        )

    def _join(self, join: TransportJoin, connected: bytes, first: bytes) -> None:
        self._dialling = None
        self._factory.waiting.discard(self)
        if connected:
            self.transport.write(connected)
        self.transport.protocol = join.near
        join.near.makeConnection(self.transport)
        if first:
            join.near.dataReceived(first)

    def _failed(self, failure: Failure, join: TransportJoin) -> None:
        self._factory.joins.discard(join)
        self._dialling = None
        error = failure.value
        if isinstance(error, DialRefused):
            self._refuse(error.reason, error.detail)
        else:
            self._refuse("failed", "the stream was not opened")

    def _refuse(self, reason: str, detail: str) -> None:
        if self._socks is not None:
            self._end(Reply.of(reason).encode())
        else:
            self._end(http_requests.answer(http_requests.status_of(reason), f"{detail}\n"))

    def _late(self) -> None:
        http = http_requests.answer(408, "nothing was asked in time\n")
        self._end(http if self._socks is None else b"")

    def _end(self, last: bytes) -> None:
        """Say why, and drop what still comes: a close before it has come would take the answer with it."""
        self._said = True
        self._cancel()
        if not self.connected:
            return
        self.transport.write(last)
        self.transport.loseWriteConnection()
        self.transport.resumeProducing()
        self._deadline = self._factory.clock.callLater(LINGER, self.transport.abortConnection)

    def _cancel(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()
