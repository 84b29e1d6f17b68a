# SPDX-License-Identifier: MIT
"""
Where each connection to the local API begins: its first bytes say whether it is to be a stream.

If so, no HTTP is left in its path: the connection is handed to what carries the stream.  All else goes to
the HTTP of the local API with its own bounds, also what asks for a stream on a connection that was used
before.  Tests: C{tests/node/api/test_entrance.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from gmesh.daemon.web import refusal
from gmesh.errors import GmeshError
from gmesh.node.api.http import ACCEPT, CONNECT, MESSAGES, LocalSite, status_of
from gmesh.node.api.local_connections import LocalConnections
from gmesh.node.api.waiting import hand_over
from gmesh.node.http_head import END, MAX_HEAD, RequestHead, read_head
from gmesh.node.limits import HEAD_TIMEOUT, MAX_LOCAL_CONNECTIONS

__all__ = ["MESSAGES_UPGRADE", "UPGRADE", "Entrance", "EntranceFactory", "Judge", "asks_for_stream"]

UPGRADE = "gmesh-stream"
"""What the framing is called in C{Upgrade} (RFC 9110, section 7.8)."""
MESSAGES_UPGRADE = "gmesh-messages"
"""The same of messages."""
_UPGRADES = {CONNECT: UPGRADE, ACCEPT: UPGRADE, MESSAGES: MESSAGES_UPGRADE}
_BEGINNINGS = (b"CONNECT ", *(b"GET " + path for path in _UPGRADES))

Judge = Callable[[RequestHead, Any], IProtocol]
"""Makes, of a head and the transport, what has the connection then; raises L{GmeshError} to refuse."""


def asks_for_stream(head: RequestHead) -> bool:
    """Whether the connection is to be a stream, or messages, after this."""
    if head.method == "CONNECT":
        return True
    path = head.target.partition("?")[0].encode("latin-1")
    upgrades = "upgrade" in head.listed("connection") and _UPGRADES.get(path) in head.listed("upgrade")
    return head.method == "GET" and path in _UPGRADES and upgrades


class Entrance(Protocol):
    """
    Reads the first head, if it may be one that asks for a stream.

    @param http: what has the connection otherwise.
    @param judge: see L{Judge}.
    @param connections: says whether there is room for another.
    """

    transport: Any

    def __init__(
        self, http: IProtocol, judge: Judge, clock: IReactorTime, connections: LocalConnections | None = None
    ) -> None:
        self._connections = connections
        self._http = http
        self._judge = judge
        self._clock = clock
        self._held = b""
        self._timer: IDelayedCall | None = None
        self._refused = False

    def connectionMade(self) -> None:
        """A head takes only so long."""
        if self._connections is not None and not self._connections.takes(self.transport):
            self._refuse(503, "busy", f"programs have {MAX_LOCAL_CONNECTIONS} connections already")
            return
        self._timer = self._clock.callLater(HEAD_TIMEOUT, self._late)

    def dataReceived(self, data: bytes) -> None:
        """A piece of the first head."""
        if self._refused:
            return
        self._held += data
        if not self._may_be_stream():
            self._become(self._http, self._held)
            return
        end = self._held.find(END)
        if max(end, len(self._held) if end < 0 else 0) > MAX_HEAD:
            self._refuse(431, "too-large", f"a head has at most {MAX_HEAD} bytes")
        elif end >= 0:
            self._whole(self._held[:end], self._held[end + len(END) :])

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nobody asks any more."""
        self._stop_timer()

    def _may_be_stream(self) -> bool:
        return any(self._held.startswith(each) or each.startswith(self._held) for each in _BEGINNINGS)

    def _whole(self, head: bytes, rest: bytes) -> None:
        try:
            request = read_head(head)
            if not asks_for_stream(request):
                self._become(self._http, self._held)
                return
            protocol = self._judge(request, self.transport)
        except GmeshError as error:
            self._refuse(status_of(error), error.reason, error.detail)
            return
        self._become(protocol, rest)

    def _become(self, protocol: IProtocol, data: bytes) -> None:
        self._stop_timer()
        self._held = b""
        hand_over(self.transport, protocol)
        if data:
            protocol.dataReceived(data)

    def _late(self) -> None:
        self._timer = None
        if self._held:
            self._refuse(408, "timed-out", f"a head takes at most {HEAD_TIMEOUT:g} s")
        else:
            self._become(self._http, b"")

    def _refuse(self, status: int, slug: str, detail: str) -> None:
        self._stop_timer()
        self._refused = True
        self.transport.write(refusal(status, slug, detail))
        self.transport.loseConnection()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class EntranceFactory(Factory):
    """
    Makes an L{Entrance} for each connection.

    @param site: makes the HTTP of the local API.
    @param judge: see L{Judge}.
    @param connections: those of all ports.
    """

    noisy = False

    def __init__(
        self,
        site: LocalSite | Factory[Any],
        judge: Judge,
        clock: IReactorTime,
        connections: LocalConnections | None = None,
    ) -> None:
        self._connections = connections or LocalConnections(clock)
        self._site = site
        self._judge = judge
        self._clock = clock

    def buildProtocol(self, addr: IAddress | None) -> Entrance:
        """For a new connection."""
        http = self._site.buildProtocol(addr)
        assert http is not None
        return Entrance(http, self._judge, self._clock, self._connections)

    def doStart(self) -> None:
        """A port opens."""
        super().doStart()
        self._site.doStart()

    def doStop(self) -> None:
        """A port closes."""
        super().doStop()
        self._site.doStop()
