# SPDX-License-Identifier: MIT
"""
HTTP/1.1 with bounds: bodies are counted, requests must arrive in time, nothing is ambiguous; a connection
holds one request, and of its answer what the line takes.

twisted.web re-arms its idle timer with each byte, and takes folded headers and requests without a Host;
here each is answered by a problem document and the connection closed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes as unquote

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource

from gmesh.authority import limits
from gmesh.authority.problems import problem_body
from gmesh.authority.rate_limit import address_key
from gmesh.authority.sending import PiecewiseBody
from gmesh.daemon.web import CappedChannel, CappedRequest, QuietSite

__all__ = ["AuthorityChannel", "AuthorityRequest", "AuthoritySite"]

_BODY_LIMITS = {name.encode("ascii"): size for name, size in limits.BODY_LIMITS.items()}
HEALTH_PATHS = frozenset({b"/healthz", b"/readyz"})


class AuthorityRequest(CappedRequest):
    """A request that says one thing only."""

    channel: AuthorityChannel
    body_limit = limits.BODY_BYTES
    _body: PiecewiseBody | None = None
    _ended = False

    def gotLength(self, length: int | None) -> None:
        """The headers are complete: refuse what is ambiguous or announced too large."""
        self.body_limit = self.channel.body_limit()
        hosts = self.requestHeaders.getRawHeaders(b"Host", [])
        if len(hosts) != 1 and not (not hosts and self.channel.is_health_check()):
            self.channel.refuse(400, "bad-request", "a request has exactly one Host header")
        elif len(self.requestHeaders.getRawHeaders(b"Transfer-Encoding", [])) > 1:
            self.channel.refuse(400, "bad-request", "a request has at most one Transfer-Encoding")
        elif not _is_text(self.requestHeaders.getAllRawHeaders()):
            self.channel.refuse(400, "bad-request", "a header is not UTF-8")
        else:
            super().gotLength(length)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The whole request is here."""
        if self.channel.refused:
            return
        try:
            path.decode("ascii")
            command.decode("ascii")
            if b"%" in path:
                unquote(path).decode("utf-8")
        except UnicodeDecodeError:
            self.channel.refuse(
                400, "bad-request", "the request line is not ASCII, or not UTF-8 when decoded"
            )
            return
        if not path.startswith(b"/") or command != command.upper():
            self.channel.refuse(400, "bad-request", "a request is METHOD /path, the method in capitals")
            return
        path = self.channel.site.without_url_path(path)
        # What http.Request does, but for the parsing of forms: no route takes one, and it costs
        # as much as verifying a signature.
        if self.content is not None:
            self.content.seek(0)
        self.args = {}
        self.method, self.uri, self.clientproto = command, path, version
        self.path = path.partition(b"?")[0]
        self.process()

    def write(self, data: bytes) -> None:
        """Write a part of the answer; a long one goes as the line takes it."""
        if len(data) <= limits.SEND_PIECE_BYTES or self.method == b"HEAD" or self._disconnected:
            super().write(data)
            return
        self.channel.begin_long_answer(len(data))
        self._body = PiecewiseBody(data, super().write, self._written)
        self.registerProducer(self._body, True)
        self._body.resumeProducing()

    def finish(self) -> None:
        """The answer is complete: the request is done once all of it is written."""
        self._ended = True
        if self._body is None:
            super().finish()

    def _written(self) -> None:
        self._body = None
        self.unregisterProducer()
        if self._ended:
            super().finish()

    def getRequestHostname(self) -> bytes:
        """Routes do not depend on the Host a client claims."""
        return b"authority"


class AuthorityChannel(CappedChannel):
    """
    One connection.

    @ivar _due: when the next request must be here; None while one is answered.
    @ivar _turn: the turn of the reactor in which the next pipelined request is worked on.
    """

    log = Logger()
    site: AuthoritySite
    requestFactory = AuthorityRequest
    _version: bytes
    _path: bytes
    _command: bytes
    _due: float | None = None
    _turn: IDelayedCall | None = None
    _timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Start the clock, and count the connection against its address."""
        super().connectionMade()
        self._host = getattr(self.getPeer(), "host", "unix")
        if not self.site.opened(self._host):
            self.refused = True
            self.transport.abortConnection()
            return
        self._expect_request()

    def lineReceived(self, line: bytes) -> None:
        """A line of the head; a folded header could hide one from a proxy."""
        if line[:1] in (b" ", b"\t"):
            self.refuse(400, "bad-request", "folded header lines are not accepted")
        if not self.refused:  # asked here, not one call further on: this is done for each line
            if self._there is None:
                self.keep_ends()
            HTTPChannel.lineReceived(self, line)

    def allContentReceived(self) -> None:
        """The request arrived in time; now the answer has its own."""
        if not self.refused:
            self._due = None
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        """
        An answer is out: the next request has its time from here, and that to send a long answer.

        What was pipelined waits for another turn, and for the line to take what was answered.
        """
        if not self.refused and self._due is None:
            self._expect_request(request.sentLength // limits.SEND_BYTES_A_SECOND)
        self.paused = True
        super().requestDone(request)
        if self._buffer and self.persistent:
            self._networkProducer.pauseProducing()
            self._go_on_soon()
        else:
            self.paused = False

    def resumeProducing(self) -> None:
        """The line has taken what was written."""
        super().resumeProducing()
        if self.paused:
            self._go_on_soon()

    def begin_long_answer(self, size: int) -> None:
        """So many bytes are to be sent: who does not read them is cut."""
        self._expect_request(size // limits.SEND_BYTES_A_SECOND)

    def body_limit(self) -> int:
        """Bytes that the body of the present request may have."""
        path = self.site.without_url_path(self._path).partition(b"?")[0]
        return _BODY_LIMITS.get(self._command + b" " + path, limits.BODY_BYTES)

    def _go_on_soon(self) -> None:
        if self._turn is None:
            self._turn = self.site.reactor.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._turn = None
        if not self._waitingForTransport:
            self.paused = False
            self._networkProducer.resumeProducing()
            self.dataReceived(b"")

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        """Whether another request may follow: not once the daemon is about to stop."""
        if self.site.draining:
            request.responseHeaders.setRawHeaders(b"connection", [b"close"])
            return False
        return bool(super().checkPersistence(request, version))

    def is_health_check(self) -> bool:
        """Whether a load balancer asks: HAProxy's httpchk speaks HTTP/1.0 without a Host."""
        return self._version == b"HTTP/1.0" and self._path in HEALTH_PATHS

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the connection."""
        for timer in (self._timer, self._turn):
            if timer is not None:
                timer.cancel()
        self._timer = self._turn = None
        self.site.closed(self._host)
        super().connectionLost(reason)

    def refuse(self, status: int, slug: str, detail: str) -> None:
        """Answer in place of the application, count it, then close."""
        if not self.refused:
            self.site.refusals[slug] += 1
        super().refuse(status, slug, detail)

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(400, "bad-request", "not a well-formed HTTP/1.1 request")

    def _expect_request(self, sending: int = 0) -> None:
        """
        The timer is not moved with each request: it looks again when it fires.

        @param sending: seconds that the answer before it may take on a slow line.
        """
        self._due = self.site.reactor.seconds() + limits.RECEIVE_SECONDS + sending
        if self._timer is None:
            self._timer = self.site.reactor.callLater(limits.RECEIVE_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._due is None:
            return
        left = self._due - self.site.reactor.seconds()
        if left > 0:
            self._timer = self.site.reactor.callLater(left, self._look)
            return
        self.site.too_slow += 1
        self.transport.abortConnection()


class AuthoritySite(QuietSite):
    """
    The factory of connections.

    @param clock: for deadlines.
    @param new_request_id: makes the id named in an answer.
    @param connections_per_address: 0 for no bound.
    @param uncounted: addresses of proxies, which carry many clients.
    @param url_paths: with what the authority's URLs begin: a proxy may leave it on, or take it off.
    @ivar refusals: of requests that reached no route, by reason.
    @ivar draining: whether each connection ends with its next answer.
    """

    draining = False
    requestFactory = AuthorityRequest
    protocol: Any = AuthorityChannel
    reactor: IReactorTime

    def __init__(
        self,
        resource: IResource,
        clock: IReactorTime,
        new_request_id: Callable[[], str],
        connections_per_address: int = limits.CONNECTIONS_PER_ADDRESS,
        uncounted: Container[str] = frozenset(),
        url_paths: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        super().__init__(resource, requestFactory=AuthorityRequest, reactor=clock, timeout=None)
        self.new_request_id = new_request_id
        self.too_slow = 0
        self.too_many = 0
        self.refusals: Counter[str] = Counter()
        self._per_address = connections_per_address
        self._uncounted = uncounted
        self._url_paths = url_paths
        self._connections: Counter[str] = Counter()

    def problem(self, slug: str, status: int, detail: str) -> bytes:
        """The body that reports a refusal."""
        return problem_body(slug, status, detail, self.new_request_id())

    def without_url_path(self, target: bytes) -> bytes:
        """The request target as it is signed and routed, whatever the proxy in front has left on it."""
        for path in self._url_paths():
            if target.startswith(f"{path}/".encode()):
                return target[len(path) :]
        return target

    @property
    def connected(self) -> int:
        """How many connections are open."""
        return self._connections.total()

    def opened(self, host: str) -> bool:
        """Count a connection. @return: False if its address has too many."""
        name = address_key(host)
        self._connections[name] += 1
        if self._per_address and host not in self._uncounted and self._connections[name] > self._per_address:
            self.too_many += 1
            return False
        return True

    def closed(self, host: str) -> None:
        """Forget a connection."""
        name = address_key(host)
        self._connections[name] -= 1
        if self._connections[name] <= 0:
            del self._connections[name]


def _is_text(headers: Iterable[tuple[bytes, Sequence[bytes]]]) -> bool:
    """Whether each value is UTF-8 by itself: a line end between two keeps them apart."""
    try:
        b"\n".join([value for _, values in headers for value in values]).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
