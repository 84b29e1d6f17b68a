# SPDX-License-Identifier: MIT
"""Between a node and its authority: whoever answers over plain HTTP what they like, without end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from gmesh.node.authority_http import AuthorityHTTP, AuthorityUnreachable, http_client

ENOUGH = 2 * 1024 * 1024
"""Bytes after which the server itself gives up: a client that has taken them would take anything."""


class Answering(Protocol):
    """Answers a request with pieces, until the client has enough."""

    pieces: Callable[[], bytes]
    sent = 0

    def dataReceived(self, data: bytes) -> None:
        if not self.sent:
            self.transport.registerProducer(self, False)  # type: ignore[union-attr]  # connected

    def resumeProducing(self) -> None:
        piece = type(self).pieces()
        self.sent += len(piece)
        if piece:
            self.transport.write(piece)  # type: ignore[union-attr]  # connected
        else:
            self.transport.unregisterProducer()  # type: ignore[union-attr]  # connected
        if self.sent > ENOUGH:
            self.transport.abortConnection()  # type: ignore[union-attr]  # connected

    def stopProducing(self) -> None:
        """The client has hung up."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.ended.callback(self.sent)  # type: ignore[union-attr]  # set by the test


@asynccontextmanager
async def answering(pieces: Callable[[], bytes]) -> AsyncIterator[tuple[AuthorityHTTP, Deferred[int]]]:
    """A client whose authority answers so, and how many bytes it had written at the end."""
    factory = Factory.forProtocol(type("Answer", (Answering,), {"pieces": staticmethod(pieces)}))
    factory.noisy = False
    factory.ended = Deferred()  # type: ignore[attr-defined]  # for the protocol
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    url = f"http://127.0.0.1:{port.getHost().port}"
    try:
        yield AuthorityHTTP(http_client(reactor), lambda: (url,), reactor), factory.ended  # type: ignore[attr-defined,arg-type]
    finally:
        await port.stopListening()


async def refused(pieces: Callable[[], bytes]) -> int:
    """How many bytes the server could write until the client had enough."""
    async with answering(pieces) as (http, ended):
        with pytest.raises(AuthorityUnreachable):
            await http.ask("GET", "/status", lambda target: {})
        return await ended


def first_then(first: bytes, following: bytes) -> Callable[[], bytes]:
    given = iter([first])
    return lambda: next(given, following)


@pytest.mark.parametrize(
    "pieces",
    [
        first_then(b"HTTP/1.1 200 OK\r\n", b"X-Filler: %b\r\n" % (b"x" * 8000)),
        first_then(b"HTTP/1.1 200 OK\r\nX-Filler: ", b"x" * 8000),
        first_then(b"HTTP/1.1 200 ", b"x" * 8000),
        first_then(b"HTTP/1.1 200 OK\r\nX-One: x", b"\r\n x" * 2000),
    ],
    ids=["headers", "one header", "status line", "folded"],
)
async def test_c9_a_head_without_end_is_cut_below_the_parser(pieces: Callable[[], bytes]) -> None:
    """Memory stays where it was: what a socket holds is all that the server gets rid of."""
    assert await refused(pieces) < ENOUGH


async def test_c9_interim_answers_without_end_fill_neither_memory_nor_log() -> None:
    """A few are passed over, as HTTP wants it; then the connection ends."""
    with capturedLogs() as logged:
        assert await refused(lambda: b"HTTP/1.1 100 Continue\r\n\r\n" * 100) < ENOUGH
    assert len(logged) < 20


async def test_a_few_interim_answers_and_a_whole_one() -> None:
    """An honest proxy may say 100 and 103 before; a body is longer than a head; no connection is logged."""
    body = b'{"signed"' + b" " * 200_000 + b"}"
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    parts = iter([interim[:30], interim[30:] + head[:10], head[10:] + body[:5], body[5:]])
    async with answering(lambda: next(parts, b"")) as (http, ended):
        with capturedLogs() as logged:
            assert await http.ask("GET", "/status", lambda target: {}) == body
            await ended
    assert [event for event in logged if event["log_namespace"].startswith("twisted.web.client")] == []
