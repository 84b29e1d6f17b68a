# SPDX-License-Identifier: MIT
"""What the HTTP of both daemons bounds, over a transport in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.web.resource import Resource

from gmesh.daemon.web import CappedRequest, QuietSite, problem_body


class Asked(Resource):
    """Remembers the bodies it was given."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[bytes] = []

    def render_GET(self, request: Any) -> bytes:
        return b"taken"

    def render_POST(self, request: Any) -> bytes:
        self.bodies.append(request.content.read())
        return b"taken"


class Small(CappedRequest):
    body_limit = 4


@pytest.fixture
def asked() -> Asked:
    return Asked()


def told(asked: Asked, *pieces: bytes) -> tuple[bytes, bool]:
    """What one connection is answered, and whether it is closed then."""
    channel = QuietSite(asked, requestFactory=Small).buildProtocol(None)
    transport = StringTransport()
    channel.makeConnection(transport)
    for piece in pieces:
        channel.dataReceived(piece)
    answer, closing = transport.value(), transport.disconnecting
    channel.connectionLost(None)
    return answer, closing


def post(size: int, body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (size, body)


def chunked(*chunks: bytes) -> bytes:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


def test_a_body_up_to_the_cap(asked: Asked) -> None:
    """It is handed over whole, announced or in chunks, and the connection stays open."""
    answer, closing = told(asked, post(4, b"abcd"), chunked(b"ef", b"gh", b""))
    assert asked.bodies == [b"abcd", b"efgh"]
    assert (answer.count(b"HTTP/1.1 200 "), closing) == (2, False)


@pytest.mark.parametrize("pieces", [(post(5, b""),), (chunked(b"abc"), b"2\r\nde\r\n")])
def test_a_body_above_the_cap(asked: Asked, pieces: tuple[bytes, ...]) -> None:
    """It is refused once, with a problem document; nothing that comes after it is read."""
    more = (b"3\r\nfgh\r\n", b"0\r\n\r\n", post(1, b"x"))
    answer, closing = told(asked, *pieces, *more)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"Content-Length: %d" % len(body) in head
    assert json.loads(body) == {
        "type": "urn:gmesh:problem:too-large",
        "title": "too large",
        "status": 413,
        "detail": "a body has at most 4 bytes",
    }
    assert (asked.bodies, closing) == ([], True)


def test_a_problem_has_members_of_its_own() -> None:
    """They stand beside those of RFC 9457."""
    body = json.loads(problem_body("rate-limited", "Too Many Requests", 429, "wait", retry_after=3))
    assert body == {
        "type": "urn:gmesh:problem:rate-limited",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "wait",
        "retry_after": 3,
    }


def test_a23_a_head_leaves_no_line_in_the_log(asked: Asked) -> None:
    """Anybody can ask, as fast as the line allows, and twisted.web would write a line with what they ask."""
    lines: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(lines.append)
    try:
        answer, _ = told(asked, b"HEAD /of-a-stranger HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
    finally:
        globalLogPublisher.removeObserver(lines.append)
    assert answer.count(b"HTTP/1.1 200 ") == answer.lower().count(b"content-length: 5\r\n") == 2
    assert b"taken" not in answer
    assert lines == []


class Counted(StringTransport):
    """Counts how often it is asked where its ends are, and the pieces it is given."""

    asked = pieces = 0

    def getHost(self) -> Any:
        self.asked += 1
        return super().getHost()

    def getPeer(self) -> Any:
        self.asked += 1
        return super().getPeer()

    def write(self, data: bytes) -> None:
        self.pieces += 1
        super().write(data)

    def writeSequence(self, data: Any) -> None:
        self.pieces += len(data)
        super().writeSequence(data)


def test_a_request_more_on_a_connection_asks_nothing_more_of_the_system(asked: Asked) -> None:
    """Its ends stay what they are; a head is one piece, and so is a body."""
    channel, transport = QuietSite(asked).buildProtocol(None), Counted()
    channel.makeConnection(transport)
    for _ in range(3):
        channel.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    channel.connectionLost(None)
    assert transport.value().count(b"\r\n\r\ntaken") == 3
    assert (transport.asked, transport.pieces) == (2, 6)


def test_who_asks_is_whom_the_header_of_a_proxy_names(asked: Asked) -> None:
    """Whoever looks before that header has come sees the proxy, and hides nobody behind it."""
    channel, transport = QuietSite(asked).buildProtocol(None), StringTransport()
    channel.makeConnection(transport)
    assert channel.getPeer() == transport.getPeer()
    transport.peerAddr = IPv4Address("TCP", "192.0.2.7", 7)
    channel.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert channel.getPeer() == transport.peerAddr
    channel.connectionLost(None)
