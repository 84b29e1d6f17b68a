# SPDX-License-Identifier: MIT
"""
One exchange with the authority: whichever URL answers, capped in size and time, problems as errors.

Tests: C{tests/node/test_authority_client.py}.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone, ResponseFailed
from twisted.web.iweb import IResponse
from zope.interface import implementer

from gmesh.errors import DocumentRefused, RequestRefused, StoreError
from gmesh.node.limits import (
    ANSWER_HEAD_LIMIT,
    ANSWER_LIMIT,
    ANSWER_TIMEOUT,
    CONNECT_TIMEOUT,
    DETAIL_LIMIT,
    INTERIM_ANSWERS,
)
from gmesh.trust.authority_answers import PROBLEM_PREFIX, is_answer
from gmesh.trust.restricted_json import parse_json
from gmesh.wire.proxy import Proxies

__all__ = [
    "Answer",
    "AskLater",
    "AuthorityHTTP",
    "AuthorityUnreachable",
    "Headers",
    "StaleClock",
    "http_client",
    "read_answer",
]

Headers = Callable[[str], dict[str, str]]
"""The headers of a request, given its target: path and query, without the path of the authority's URL."""


class AuthorityUnreachable(StoreError):
    """No authority URL gave an answer that HTTP understands."""


class StaleClock(RequestRefused):
    """
    The authority found the request signed at another time than now.

    @ivar time: now, as the authority says without a signature.
    """

    def __init__(self, detail: str, time: int) -> None:
        super().__init__("stale", detail)
        self.time = time


class AskLater(RequestRefused):
    """
    The authority has had enough of this for now (RFC 9110 section 10.2.3, in the problem document).

    @ivar seconds: to wait, as the authority says without a signature.
    """

    def __init__(self, detail: str, seconds: int) -> None:
        super().__init__("rate-limited", detail)
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Answer:
    """
    One whole answer.

    @ivar code: the HTTP status.
    @ivar body: at most C{ANSWER_LIMIT} bytes.
    @ivar kind: its media type; empty where an anchor brought it.
    """

    code: int
    body: bytes
    kind: str = ""


class _CappedHead(ProtocolWrapper):
    """
    Lets a bounded head of an answer through to the parser, which itself would keep one without end.

    Interim answers (RFC 9110 section 15.2) are few: the parser would write a line of log for each.
    """

    _head: bytes | None = b""
    _interim = 0
    _refused = False

    def dataReceived(self, data: bytes) -> None:
        if self._refused:
            return
        if self._head is not None and not self._looked(data):
            self._refused = True
            self.abortConnection()
            return
        super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._refused:
            reason = Failure(RequestRefused("too-large", "the head of the answer is too long"))
        super().connectionLost(reason)

    def _looked(self, data: bytes) -> bool:
        """Follow the heads. @return: False once they are too long, or too many."""
        assert self._head is not None
        self._head += data
        while b"\r\n\r\n" in self._head:
            if not self._head.startswith(b"HTTP/1.1 1"):
                self._head = None
                return True
            self._interim += 1
            self._head = self._head.partition(b"\r\n\r\n")[2]
        return len(self._head) <= ANSWER_HEAD_LIMIT and self._interim <= INTERIM_ANSWERS


class _CappedFactory(WrappingFactory):
    protocol = _CappedHead
    noisy = False


@implementer(IStreamClientEndpoint)
class _CappedEndpoint:
    def __init__(self, inner: IStreamClientEndpoint) -> None:
        self._inner = inner

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        factory: Any = protocolFactory
        factory.noisy = False  # else two log lines for each connection
        return self._inner.connect(_CappedFactory(protocolFactory)).addCallback(_parser)


def _parser(wrapper: IProtocol) -> IProtocol:
    assert isinstance(wrapper, ProtocolWrapper)
    parser: IProtocol = wrapper.wrappedProtocol
    return parser


class _CappedPool(HTTPConnectionPool):
    """Hears no more of an answer's head than is bounded."""

    def getConnection(self, key: object, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        """@see: L{HTTPConnectionPool.getConnection}"""
        connection: Deferred[Any] = super().getConnection(key, _CappedEndpoint(endpoint))
        return connection


def http_client(reactor: Any, proxies: Proxies | None = None) -> HTTPClient:
    """
    An HTTP client that keeps no connection open between requests.

    @param proxies: those that lead to some hosts.
    """
    pool = _CappedPool(reactor, persistent=False)
    if proxies:
        from gmesh.node.proxied_agent import ProxiedAgent  # most nodes have none

        return HTTPClient(ProxiedAgent(reactor, proxies, pool))
    return HTTPClient(Agent(reactor, connectTimeout=CONNECT_TIMEOUT, pool=pool))


class AuthorityHTTP:
    """
    Asks the authority at one of its URLs, first at the one that answered last.

    @param http: the HTTP client.
    @param urls: the authority's URLs now, in order of preference.
    """

    def __init__(self, http: HTTPClient, urls: Callable[[], tuple[str, ...]], clock: IReactorTime) -> None:
        self._http = http
        self._urls = urls
        self._clock = clock
        self._listed: tuple[str, ...] = ()
        self._last_good: str | None = None
        self._closed = False

    def close(self) -> None:
        """Try no further URL: to cancel a request is to end it."""
        self._closed = True

    async def ask(
        self, method: str, path: str, headers: Headers, data: bytes = b"", timeout: float = ANSWER_TIMEOUT
    ) -> bytes:
        """
        The body of a successful answer.

        @param timeout: seconds for each URL.
        @raise RequestRefused: with the authority's reason; L{StaleClock} with its time.
        @raise AuthorityUnreachable: if no URL answers as an authority does.
        """
        return read_answer(await self._any(method, path, headers, data, timeout))

    async def forward(self, method: str, path: str, headers: dict[str, str], data: bytes) -> Answer:
        """
        Pass on a request that another node signed, as it is.

        @param path: raw path and query.
        @raise AuthorityUnreachable: if no URL answers as an authority does.
        """
        return await self._any(method, path, lambda _: headers, data, ANSWER_TIMEOUT)

    async def _any(self, method: str, path: str, headers: Headers, data: bytes, timeout: float) -> Answer:
        listed = self._urls()
        if listed != self._listed:  # the genesis names others now: its order counts, not what was
            self._listed, self._last_good = listed, None
        urls = sorted(listed, key=lambda url: url != self._last_good)
        if not urls:
            raise AuthorityUnreachable(
                "no-authority", "neither the invite nor the genesis names an authority URL"
            )
        causes = []
        for url in urls:
            base = url.rstrip("/")
            try:
                answer = await self._exchange(method, base + path, headers(path), data, timeout)
            except Exception as error:  # one URL's failure, whatever the HTTP client calls it
                if self._closed:
                    raise
                causes.append(f"{base}: {_cause(error)}")
                continue
            if answer.code == 407:
                causes.append(f"{base}: the proxy wants a user and a password, or others (407)")
            elif not is_answer(path, answer.code, answer.kind, answer.body):
                causes.append(f"{base} answered {answer.code}, but not as an authority does")
            elif answer.code >= 500:
                causes.append(f"{base} answered {answer.code}")
            else:
                self._last_good = url
                return answer
        raise AuthorityUnreachable("unreachable", "; ".join(causes))

    def _exchange(
        self, method: str, url: str, headers: dict[str, str], data: bytes, timeout: float
    ) -> Deferred[Answer]:
        sent: dict[bytes | str, bytes | str] = {name: value for name, value in headers.items()}

        async def exchange() -> Answer:
            response = await self._http.request(
                method, url, headers=sent, data=data or None, allow_redirects=False, unbuffered=True
            )
            kind = response.headers.getRawHeaders("content-type", [""])[0]
            return Answer(response.code, await _read(response), kind)

        return Deferred.fromCoroutine(exchange()).addTimeout(timeout, self._clock)


def read_answer(answer: Answer) -> bytes:
    """
    The body of a successful answer.

    @raise RequestRefused: with the authority's reason; L{StaleClock} with its time, L{AskLater} with a wait.
    """
    if 200 <= answer.code < 300:
        return answer.body
    raise _problem(answer) or RequestRefused(
        f"http-{answer.code}", f"the authority answered {answer.code} without saying why"
    )


class _Body(TwistedProtocol):
    """Collects a body up to the cap."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self.done: Deferred[bytes] = Deferred(lambda _: self._cut())

    def _cut(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        if self.done.called:
            return
        self._size += len(data)
        if self._size > ANSWER_LIMIT:
            detail = f"the authority's answer is larger than {ANSWER_LIMIT} bytes"
            self.done.errback(RequestRefused("too-large", detail))
            self._cut()
        else:
            self._chunks.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone):
            self.done.callback(b"".join(self._chunks))
        else:
            self.done.errback(reason)


def _read(response: IResponse) -> Deferred[bytes]:
    body = _Body()
    response.deliverBody(body)
    return body.done


def _cause(error: BaseException) -> str:
    if isinstance(error, DeferredTimeout):
        return "no answer in time"
    if isinstance(error, ResponseFailed):
        error = error.reasons[0].value
    return str(error) or type(error).__name__


def _problem(answer: Answer) -> RequestRefused | None:
    """The refusal that a problem document describes."""
    try:
        value = parse_json(answer.body, ANSWER_LIMIT)
    except DocumentRefused:
        return None
    kind, text, time, wait = map(value.get, ("type", "detail", "time", "retry_after"))
    if not isinstance(kind, str) or not kind.startswith(PROBLEM_PREFIX):
        return None
    reason = kind.removeprefix(PROBLEM_PREFIX)
    detail = text[:DETAIL_LIMIT] if isinstance(text, str) else reason
    if reason == "stale" and type(time) is int:
        return StaleClock(detail, time)
    if reason == "rate-limited" and type(wait) is int:
        return AskLater(detail, max(0, wait))
    return RequestRefused(reason, detail)
