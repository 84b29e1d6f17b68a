# SPDX-License-Identifier: MIT
"""Links in WebSockets: who is let in, who is told what, whose address counts, and odd frames."""

from __future__ import annotations

import pytest
import pytest_twisted
from mesh.sockets_world import Authority, RealWorld, tcp, until
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.testing import StringTransportWithDisconnection
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Pong, TextMessage

from gmesh.errors import CarrierRefused
from gmesh.mesh.limits import HANDSHAKE_DEADLINE
from gmesh.mesh.opening import OpeningFactory
from gmesh.mesh.websocket import (
    HEAD_LIMIT,
    PINGS_AT_ONCE,
    PONGS_AHEAD,
    WebSocketClient,
    WebSocketServerEndpoint,
)

SERVED = "ws:tcp:0:interface=127.0.0.1"


@pytest_twisted.async_yield_fixture
async def world():
    world = RealWorld()
    yield world
    await world.finish()


class Stranger(Protocol):
    """Sends something, keeps the answer, tells when it is over."""

    def __init__(self, data):
        self.data, self.received, self.over = data, b"", Deferred()

    def connectionMade(self):
        self.transport.write(self.data)

    def dataReceived(self, data):
        self.received += data

    def connectionLost(self, reason):
        self.over.callback(None)


async def knock(world, data, served=SERVED):
    """Send this to a node that serves WebSockets. @return: the node, and the stranger who sent it."""
    node = world.node("node")
    host = await world.listen(node, tcp(served))
    stranger = Stranger(data)
    await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", host.port), stranger)
    return node, stranger


def upgrade(*lines, subprotocol="gmesh"):
    """The head of a request for a WebSocket."""
    head = [
        "GET /mesh HTTP/1.1", "Host: a.example", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13",
        *([f"Sec-WebSocket-Protocol: {subprotocol}"] if subprotocol else []), *lines,
    ]  # fmt: skip
    return "\r\n".join([*head, "", ""]).encode()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD /x HTTP/1.0\r\n\r\n",
        upgrade(subprotocol=""),
        upgrade(subprotocol="chat"),
    ],
    ids=["page", "head", "no subprotocol", "another subprotocol"],
)
async def test_what_is_no_websocket_of_ours_is_not_found(world, request_):
    """A browser, a health check and other programs' WebSockets are told so; no place is kept."""
    node, stranger = await knock(world, request_)
    await stranger.over
    assert stranger.received.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert node.gate.half_open == 0


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nX: " + b"x" * HEAD_LIMIT,
        upgrade("Sec-WebSocket-Version: 12"),
        upgrade("Host: b"),
        b"\x16\x03\x01" * 99 + b"\r\n\r\n",
    ],
    ids=["endless head", "two versions", "two hosts", "no HTTP"],
)
async def test_a_request_that_is_none_is_refused(world, data):
    """In one answer, and closed."""
    node, stranger = await knock(world, data)
    await stranger.over
    assert stranger.received[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 404")
    assert node.gate.half_open == 0


async def test_astranger_who_says_nothing_has_the_deadline_of_the_handshake(world):
    """Before the request and after it a place among the half-open is held, and lost with the deadline."""
    node, stranger = await knock(world, b"GET / HT")
    node, greeted = await knock(world, upgrade())
    await until(lambda: greeted.received.startswith(b"HTTP/1.1 101"))
    assert node.gate.half_open == 1
    began = reactor.seconds()
    await stranger.over
    await greeted.over
    assert reactor.seconds() - began < HANDSHAKE_DEADLINE + 2


@pytest.mark.parametrize(
    ("lines", "peer"),
    [
        (["X-Forwarded-For: 203.0.113.9, 192.0.2.7"], "192.0.2.7:0"),
        (["X-Forwarded-For: 192.0.2.8", "X-Forwarded-For: [2001:db8::7]"], "[2001:db8::7]:0"),
        (["X-Forwarded-For: unknown"], "127.0.0.1:"),
        ([], "127.0.0.1:"),
    ],
)
async def test_the_address_is_that_which_a_web_server_on_this_host_names(world, lines, peer):
    """nginx has no PROXY protocol towards a WebSocket: the last address of its header counts."""
    node, stranger = await knock(world, upgrade(*lines))
    await until(lambda: node.gate.half_open)
    seen = []
    node.noise.refusals.refuse = lambda reason, detail, address, dialled: seen.append(address)
    stranger.transport.write(framed(b"gmesh\x02\x01\x00"))
    await stranger.over
    assert seen[0].startswith(peer)


def framed(data):
    """One message, as a client frames it."""
    return bytes(Connection(ConnectionType.CLIENT).send(BytesMessage(data)))


async def test_behind_haproxy_the_address_is_that_of_the_proxy_line(world):
    """PROXY, then the request."""
    line = b"PROXY TCP4 192.0.2.7 127.0.0.1 5555 443\r\n"
    node, stranger = await knock(world, line + upgrade(), "ws:haproxy:tcp:0:interface=127.0.0.1")
    await until(lambda: stranger.received.startswith(b"HTTP/1.1 101"))
    assert node.gate.half_open == 1
    seen = []
    node.noise.refusals.refuse = lambda reason, detail, address, dialled: seen.append(address)
    stranger.transport.write(framed(b"gmesh\x02\x01\x00"))
    await stranger.over
    assert seen == ["192.0.2.7:5555"]


class Upper(Protocol):
    """Keeps what it is given."""

    def __init__(self):
        self.received, self.lost = [], []

    def dataReceived(self, data):
        self.received.append(data)

    def connectionLost(self, reason):
        self.lost.append(reason)


def client_pair():
    """A client end on a transport in memory, its protocol, and the server's half of the conversation."""
    upper, transport = Upper(), StringTransportWithDisconnection()
    factory = OpeningFactory(
        Factory.forProtocol(lambda: upper), lambda *below: WebSocketClient("a.example", "/mesh", *below)
    )
    client = factory.buildProtocol(None)
    transport.protocol = client
    client.makeConnection(transport)
    server = WSConnection(ConnectionType.SERVER)
    server.receive_data(transport.value())
    transport.clear()
    [asked] = server.events()
    return client, upper, transport, server, asked


def test_the_request():
    """Host and path as given, the subprotocol, and no extension: what is sealed does not shrink."""
    _, upper, _, _, asked = client_pair()
    assert (asked.host, asked.target) == ("a.example", "/mesh")
    assert (asked.subprotocols, asked.extensions) == (["gmesh"], [])
    assert upper.transport is None


def test_messages_are_cut_anywhere():
    """Whole or in pieces, the bytes are those that were sent, in order; a ping is answered."""
    client, upper, transport, server, _ = client_pair()
    sent = server.send(AcceptConnection(subprotocol="gmesh"))
    sent += server.send(BytesMessage(b"abc", message_finished=False)) + server.send(Ping(b"there?"))
    sent += server.send(BytesMessage(b"defg")) + server.send(BytesMessage(b"h" * 70_000))
    for start in range(0, len(sent), 1000):
        client.dataReceived(bytes(sent[start : start + 1000]))
    assert b"".join(upper.received) == b"abcdefg" + b"h" * 70_000
    upper.transport.writeSequence((b"an", b"swer"))
    server.receive_data(transport.value())
    events = list(server.events())
    assert [type(event) for event in events] == [Pong, BytesMessage]
    assert events[1].data == b"answer" and events[1].message_finished


def opened_pair():
    """As L{client_pair}, agreed."""
    client, upper, transport, server, _ = client_pair()
    client.dataReceived(bytes(server.send(AcceptConnection(subprotocol="gmesh"))))
    transport.clear()

    def said():
        server.receive_data(transport.value())
        transport.clear()
        return [bytes(getattr(event, "payload", None) or event.data) for event in server.events()]

    return client, upper, transport, server, said


def test_of_pings_that_are_read_at_once_the_newest_is_answered():
    """RFC 6455, 5.5.3: one PONG answers for all."""
    client, upper, _, server, said = opened_pair()
    client.dataReceived(b"".join(server.send(Ping(b"%d" % number)) for number in range(PINGS_AT_ONCE)))
    assert said() == [b"%d" % (PINGS_AT_ONCE - 1)] and upper.lost == []


def test_c4_pings_without_end_end_the_connection():
    """Before what else was read with them is looked at."""
    client, upper, transport, server, said = opened_pair()
    client.dataReceived(b"".join(server.send(Ping()) for _ in range(10_000)))
    assert not transport.connected and len(upper.lost) == 1 and said() == []


def test_c4_pings_of_a_peer_that_does_not_read_fill_no_buffer():
    """So many are answered between two messages of ours; the newest of the others is with the next one."""
    client, upper, transport, server, said = opened_pair()
    for number in range(1000):
        client.dataReceived(server.send(Ping(b"%d" % number)))
    assert said() == [b"%d" % number for number in range(PONGS_AHEAD)]
    upper.transport.write(b"news")
    assert said() == [b"999", b"news"]
    client.dataReceived(server.send(Ping(b"again")))
    assert said() == [b"again"] and transport.connected


@pytest.mark.parametrize("odd", ["text", "close", "junk"])
def test_the_end_of_a_websocket_ends_the_connection(odd):
    """Text, CLOSE and frames that are none: what came before is delivered, then it is over."""
    client, upper, transport, server, _ = client_pair()
    begun = server.send(AcceptConnection(subprotocol="gmesh")) + server.send(BytesMessage(b"x"))
    client.dataReceived(bytes(begun))
    ends = {"text": TextMessage("x"), "close": CloseConnection(1000)}
    client.dataReceived(bytes(server.send(ends[odd])) if odd in ends else b"\xff" * 9)
    assert upper.received == [b"x"] and len(upper.lost) == 1
    assert not transport.connected


def test_what_is_written_after_the_end_goes_nowhere():
    """CLOSE is said once; then silence."""
    client, upper, transport, server, _ = client_pair()
    client.dataReceived(bytes(server.send(AcceptConnection(subprotocol="gmesh"))))
    upper.transport.loseConnection()
    server.receive_data(transport.value())
    assert [type(event) for event in server.events()] == [CloseConnection]
    transport.clear()
    client.write(b"more")
    assert transport.value() == b""


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nbad",
            "answers 502 and gives no WebSocket: see its path /mesh",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>", "answers 200 and gives no WebSocket"),
        (b"<html>hello</html>\r\n\r\n", "is no web server with a WebSocket for gmesh"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 99_999, "is no web server with a WebSocket for gmesh"),
        (b"", "closed the connection without an answer"),
    ],
    ids=["502", "page", "no HTTP", "endless head", "closed"],
)
def test_another_answer_is_told(answer, said):
    """What the web server did, and where to look; the protocol above never began."""
    client, upper, transport, _, _ = client_pair()
    failures = []
    client.opened.addErrback(lambda failure: failures.append(failure.value))
    if answer:
        client.dataReceived(answer)
    else:
        transport.loseConnection()
    [error] = failures
    assert isinstance(error, CarrierRefused) and said in str(error) and upper.transport is None
    assert not transport.connected


def test_another_programs_websocket_is_none():
    """A server that takes any WebSocket without our subprotocol is not spoken to."""
    client, upper, _, server, _ = client_pair()
    failures = []
    client.opened.addErrback(lambda failure: failures.append(str(failure.value)))
    client.dataReceived(bytes(server.send(AcceptConnection())))
    assert "another program" in failures[0] and upper.transport is None


def test_certificates_behind_a_websocket_are_read_again(tmp_path):
    """The endpoint with the files is found behind that of the WebSocket, as a reload needs it."""
    served, _ = Authority(tmp_path).endpoint("localhost")
    endpoint = tcp(f"ws:{served}")
    assert isinstance(endpoint, WebSocketServerEndpoint) and hasattr(endpoint.inner, "_sslContextFactory")


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")  # Twisted's own call
@pytest.mark.parametrize("offered", [[b"h2", b"http/1.1"], []])
async def test_a_web_client_in_tls_is_understood(world, tmp_path, offered):
    """Those that offer protocols by ALPN are told HTTP/1.1, the others nothing; both are answered."""
    served, _ = Authority(tmp_path).endpoint("localhost")
    node = world.node("node")
    host = await world.listen(node, tcp(f"ws:{served}"))
    stranger = Stranger(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    options = CertificateOptions(acceptableProtocols=offered or None)
    endpoint = wrapClientTLS(options, TCP4ClientEndpoint(reactor, "127.0.0.1", host.port))
    await connectProtocol(endpoint, stranger)
    told = []
    stranger.dataReceived = lambda data: told.append((stranger.transport.negotiatedProtocol, data))
    await until(lambda: told)
    assert told[0][0] == (b"http/1.1" if offered else None)
    assert told[0][1].startswith(b"HTTP/1.1 404")
    await stranger.over
