# SPDX-License-Identifier: MIT
"""Hostile HTTP, byte by byte: what twisted.web would swallow is refused, bounded and cut."""

from __future__ import annotations

import json
from functools import partialmethod
from typing import Any

import pytest
from klein import Klein
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.python.failure import Failure

from gmesh.authority import limits
from gmesh.authority.http import AuthorityRequest, AuthoritySite


class Transport(StringTransportWithDisconnection):
    """In memory, and it can be aborted."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        self.loseConnection()

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


class SlowTransport(Transport):
    """It pauses who writes more than a transport of Twisted holds, until what was written is read."""

    unsent = 0
    most = 0
    received = 0
    producer: Any

    def write(self, data: bytes) -> None:
        self.unsent += len(data)
        self.most = max(self.most, self.unsent)
        if self.unsent > 2**16 and self.producer is not None:
            self.producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def read(self) -> None:
        """The client takes everything."""
        self.received += self.unsent
        self.unsent = 0
        if self.producer is not None:
            self.producer.resumeProducing()


class Browser:
    """Connections to a site whose one route tells how long the body was."""

    def __init__(self) -> None:
        app = Klein()
        self.bodies: list[int] = []
        self.answer = b"ok"

        @app.route("/healthz", methods=["GET"])
        @app.route("/readyz", methods=["GET"])
        @app.route("/x", methods=["GET", "POST"])
        def serve(request: Any) -> bytes:
            self.bodies.append(len(request.content.read()))
            self.targets.append(request.uri)
            request.setHeader("Content-Length", str(len(self.answer)))
            return self.answer

        self.clock = Clock()
        self.targets: list[bytes] = []
        self.site = AuthoritySite(
            app.resource(),
            self.clock,
            lambda: "id",
            connections_per_address=3,
            url_paths=lambda: {"/mesh/one"},
        )

    def connect(self, host: str = "192.0.2.1", kind: type[Transport] = Transport) -> Any:
        address = IPv4Address("TCP", host, 50_000)
        channel = self.site.buildProtocol(address)
        transport = kind(peerAddress=address)
        transport.protocol = channel
        channel.makeConnection(transport)
        transport.channel = channel
        return transport

    def send(self, data: bytes) -> Transport:
        transport = self.connect()
        transport.channel.dataReceived(data)
        return transport


@pytest.fixture
def browser() -> Any:
    """A site and its clients."""
    return Browser()


def problem(transport: Transport) -> tuple[int, str]:
    """Status and slug of the answer, which must be a problem document and the end of the connection."""
    head, _, body = transport.value().partition(b"\r\n\r\n")
    assert b"application/problem+json" in head and b"Connection: close" in head, transport.value()
    value = json.loads(body)
    assert not transport.connected
    assert int(head.split()[1]) == value["status"]
    return value["status"], value["type"].rsplit(":", 1)[1]


HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\n"


def test_a_body_within_the_cap_passes(browser: Browser) -> None:
    """Plain and chunked bodies arrive whole, and the connection stays."""
    transport = browser.send(HEAD + b"Content-Length: 3\r\n\r\nabc")
    transport.channel.dataReceived(
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    assert browser.bodies == [3, 5]
    assert transport.connected
    transport.loseConnection()


def test_a_request_more_on_a_connection_asks_no_end_of_the_system(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are kept from the first line on, which comes after what a proxy says of whom it is for."""
    asked: list[str] = []

    def told(self: Transport, name: str) -> Any:
        asked.append(name)
        return getattr(StringTransportWithDisconnection, name)(self)

    for name in ("getHost", "getPeer"):
        monkeypatch.setattr(Transport, name, partialmethod(told, name), raising=False)
    transport = browser.send(GET)
    asked.clear()
    for _ in range(3):
        transport.channel.dataReceived(GET)
    assert transport.value().count(b"HTTP/1.1 200 ") == 4 and asked == []
    transport.loseConnection()


def test_d11_a_proxy_may_leave_the_path_of_the_url_on(browser: Browser) -> None:
    """Left on or taken off: what is routed and signed is what comes after it."""
    for target in (b"/x?a=1", b"/mesh/one/x?a=1", b"/mesh/x", b"/mesh/one", b"/mesh/one/mesh/one/x"):
        browser.send(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n").loseConnection()
    assert browser.targets == [b"/x?a=1", b"/x?a=1"]


def test_an_announced_large_body_is_refused_before_it_comes(browser: Browser) -> None:
    """80 MB in Content-Length: 413 at once, nothing kept."""
    assert problem(browser.send(HEAD + b"Content-Length: 80000000\r\n\r\n")) == (413, "too-large")
    assert browser.bodies == []


def test_a_chunked_body_is_counted(browser: Browser) -> None:
    """2 MB in chunks: 413 when the cap is passed, and what follows is dropped."""
    transport = browser.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    for _ in range(32):
        if transport.connected:
            transport.channel.dataReceived(chunk)
    assert problem(transport) == (413, "too-large")
    assert browser.bodies == []


BAD_HEADS = {
    "obs-fold": HEAD + b"X: 1\r\n folded\r\n\r\n",
    "no host": b"GET /x HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "length and chunked": HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
    "two lengths": HEAD + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "negative length": HEAD + b"Content-Length: -3\r\n\r\n",
    "signed length": HEAD + b"Content-Length: +3\r\n\r\n",
    "NUL": HEAD + b"X: a\x00b\r\n\r\n",
    "space before colon": HEAD + b"X : a\r\n\r\n",
    "20 kB of header": HEAD + b"X: " + b"a" * 15_000 + b"\r\nY: " + b"a" * 5_000 + b"\r\n\r\n",
    "600 headers": HEAD + b"".join(b"X%d: 1\r\n" % number for number in range(600)) + b"\r\n",
    "non-ascii target": b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    "target not utf-8": b"GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n",
    "no request line": b"hello\r\n\r\n",
    "two encodings": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "no path": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "a whole URL": b"GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "method not in capitals": b"get /x HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("case", BAD_HEADS)
def test_ambiguous_heads_are_refused(browser: Browser, case: str) -> None:
    """Each is answered 400 by a problem document, or by a closed connection; no handler runs."""
    transport = browser.send(BAD_HEADS[case])
    assert problem(transport)[0] == 400
    assert browser.bodies == []


@pytest.mark.parametrize("host", [b"", b"\xc3\xa9", b"a" * 300, b"x..y", b"[::1", b"a b"])
def test_routes_do_not_depend_on_the_host(browser: Browser, host: bytes) -> None:
    """Whatever one Host header says, the route answers."""
    transport = browser.send(b"GET /x HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert transport.value().startswith(b"HTTP/1.1 200")
    transport.loseConnection()


@pytest.mark.parametrize(
    "drip",
    [
        b"GET /x HTTP/1.1\r\nHost: a\r\nX: ",
        HEAD + b"Content-Length: 100\r\n\r\n",
        b"GET /x HTTP/1.1\nHost: a\n\n",
    ],
    ids=["in the head", "in the body", "bare LF, which ends no line"],
)
def test_slow_requests_are_cut(browser: Browser, drip: bytes) -> None:
    """One byte a second re-arms nothing: ten seconds after the connection it is cut."""
    transport = browser.send(drip)
    for _ in range(limits.RECEIVE_SECONDS - 1):
        browser.clock.advance(1)
        transport.channel.dataReceived(b"a")
    assert transport.connected
    browser.clock.advance(1)
    assert transport.aborted


def test_the_deadline_starts_again_after_an_answer(browser: Browser) -> None:
    """A kept-alive connection has ten seconds from each answer, and a slow answer is not cut by it."""
    transport = browser.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    browser.clock.advance(9)
    transport.channel.dataReceived(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    browser.clock.advance(9)
    assert transport.connected
    browser.clock.advance(1)
    assert transport.aborted
    assert browser.bodies == [0, 0]


def test_a_long_answer_has_time_to_get_through(browser: Browser) -> None:
    """Who is sent a CRL over a slow line is not cut ten seconds after it was written, but in the end."""
    browser.answer = bytes(20 * limits.SEND_BYTES_A_SECOND)
    transport = browser.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    browser.clock.pump([1] * (limits.RECEIVE_SECONDS + 19))
    assert transport.connected
    browser.clock.advance(1)
    assert transport.aborted


GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
MEGABYTE = 2**20


def test_a17_a_reader_that_takes_nothing_holds_one_piece_of_one_answer(browser: Browser) -> None:
    """Of 190 pipelined requests for a megabyte one is worked on; what a transport holds waits unsent."""
    browser.answer = bytes(MEGABYTE)
    transport = browser.connect(kind=SlowTransport)
    transport.channel.dataReceived(GET * 190)
    browser.clock.pump([0] * 200)
    assert transport.most <= 2 * limits.SEND_PIECE_BYTES + 1024
    assert browser.bodies == [0]
    transport.loseConnection()


def test_a17_pipelined_answers_go_out_as_they_are_read(browser: Browser) -> None:
    """All of them, each begun when the line has taken the last; then the connection serves on."""
    browser.answer = bytes(MEGABYTE)
    transport = browser.connect(kind=SlowTransport)
    transport.channel.dataReceived(GET * 5)
    for _ in range(5 * (MEGABYTE // limits.SEND_PIECE_BYTES + 3)):
        transport.read()
        browser.clock.advance(0)
    assert browser.bodies == [0] * 5
    assert 5 * MEGABYTE < transport.received < 5 * (MEGABYTE + 400)
    assert transport.most <= 2 * limits.SEND_PIECE_BYTES + 1024
    browser.answer = b"ok"
    transport.channel.dataReceived(GET)
    assert browser.bodies == [0] * 6
    transport.loseConnection()


def test_a17_an_idle_reader_is_cut(browser: Browser) -> None:
    """Once a line that carries what lines carry at least would have had the answer."""
    browser.answer = bytes(20 * limits.SEND_BYTES_A_SECOND)
    transport = browser.connect(kind=SlowTransport)
    transport.channel.dataReceived(GET)
    browser.clock.pump([1] * (limits.RECEIVE_SECONDS + 19))
    assert transport.connected
    browser.clock.advance(1)
    assert transport.aborted and not browser.clock.getDelayedCalls()


def test_a17_each_pipelined_request_has_a_turn_of_its_own(browser: Browser) -> None:
    """Hundreds in one packet do not hold up everybody else; they are answered in order."""
    transport = browser.send(GET * 3 + HEAD + b"Content-Length: 2\r\n\r\nab" + GET[:10])
    assert browser.bodies == [0]
    browser.clock.advance(0)
    browser.clock.pump([0] * 5)
    assert browser.bodies == [0, 0, 0, 2]
    transport.channel.dataReceived(GET[10:])
    assert browser.bodies == [0, 0, 0, 2, 0]
    transport.loseConnection()
    assert not browser.clock.getDelayedCalls()


def test_a17_a_client_that_goes_in_the_middle_of_an_answer(browser: Browser) -> None:
    """Nothing is left of it, whatever it had pipelined."""
    browser.answer = bytes(MEGABYTE)
    transport = browser.connect(kind=SlowTransport)
    transport.channel.dataReceived(GET * 3)
    transport.read()
    transport.loseConnection()
    assert not browser.clock.getDelayedCalls()
    assert browser.site.connected == 0


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/join", 4096),
        ("/renew", 8192),
        ("/x", 4096),
        ("/admin/policies?x=1", 256 * 1024),
        ("/nowhere", 4096),
    ],
)
def test_a16_a_body_too_large_for_its_document_is_not_received(
    browser: Browser, path: str, most: int
) -> None:
    """413 when the head announces it; a byte less is waited for."""
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: "
    assert problem(browser.send(f"{head}{most + 1}\r\n\r\n".encode())) == (413, "too-large")
    transport = browser.send(f"{head}{most}\r\n\r\n".encode())
    assert transport.value() == b"" and transport.connected
    transport.loseConnection()


def test_connections_of_one_ipv6_network(browser: Browser) -> None:
    """Who has a /64 has one address, here as in the buckets."""
    held = [browser.connect(f"2001:db8::{number}") for number in range(3)]
    assert browser.connect("2001:db8::ffff").aborted
    other = browser.connect("2001:db8:0:1::1")
    assert not other.aborted
    for transport in (*held, other):
        transport.loseConnection()
    assert browser.site.connected == 0


def test_connections_per_address(browser: Browser) -> None:
    """The fourth connection of an address is cut; others, and later ones, are not."""
    held = [browser.connect() for _ in range(3)]
    assert browser.connect().aborted
    other = browser.connect("192.0.2.2")
    assert not other.aborted
    held.pop().loseConnection()
    again = browser.connect()
    assert not again.aborted
    for transport in (*held, other, again):
        transport.loseConnection()


def test_no_delayed_call_outlives_a_connection(browser: Browser) -> None:
    """A lost connection leaves no timer."""
    transport = browser.send(b"GET")
    transport.channel.connectionLost(Failure(ConnectionDone()))
    assert not browser.clock.getDelayedCalls()


def test_only_http_1_is_negotiated(browser: Browser) -> None:
    """h2 would bring a channel without these bounds."""
    assert browser.site.acceptableProtocols() == [b"http/1.1"]
    assert browser.site.requestFactory is AuthorityRequest


@pytest.mark.parametrize("path", [b"/readyz", b"/healthz"])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_d13_a_health_check_of_haproxy_is_answered(browser: Browser, method: bytes, path: bytes) -> None:
    """HTTP/1.0 without a Host is answered on the two paths made for it; HEAD has no body."""
    transport = browser.send(method + b" " + path + b" HTTP/1.0\r\n\r\n")
    head, _, body = transport.value().partition(b"\r\n\r\n")
    assert head.splitlines()[0].split()[1] == b"200"
    assert body == (b"ok" if method == b"GET" else b"")
    assert not transport.connected


@pytest.mark.parametrize(
    "head",
    [
        b"GET /x HTTP/1.0\r\n\r\n",
        b"GET /readyz HTTP/1.1\r\n\r\n",
        b"GET /readyz/ HTTP/1.0\r\n\r\n",
        b"GET /readyz HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    ],
)
def test_d13_no_other_request_goes_without_a_host(browser: Browser, head: bytes) -> None:
    """Another path, another version, two of them: 400, and no handler runs."""
    assert b" 400 " in browser.send(head).value().splitlines()[0]
    assert browser.bodies == []


def test_each_answer_of_a_site_that_drains_ends_its_connection(browser: Browser) -> None:
    """Also on a connection that was kept open before."""
    kept = browser.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    assert kept.connected
    browser.site.draining = True
    for transport in (kept, browser.connect()):
        transport.clear()
        transport.channel.dataReceived(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        head, _, body = transport.value().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ") and b"connection: close" in head.lower() and body == b"ok"
        assert not transport.connected
