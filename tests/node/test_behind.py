# SPDX-License-Identifier: MIT
"""A web server behind the port of a node: its requests byte for byte, and whose they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from mesh.sockets_world import Authority, RealWorld, tcp, until
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.haproxy._v2parser import V2Parser

from gmesh.errors import ConfigurationError
from gmesh.mesh.opening import OpeningEndpoint
from gmesh.mesh.websocket import WebSocketClient
from gmesh.node import behind as behind_module
from gmesh.node.behind import proxy_header
from gmesh.node.configuration import read_configuration
from gmesh.node.listening import mesh_server

REQUEST = (
    b"POST /renew?x=1 HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 6.6.6.6\r\n"
    b"Content-Length: 4\r\n\r\nbody"
)


class Program(Factory):
    """The web server: keeps what each connection brings, and writes what it is told to."""

    noisy = False

    def __init__(self) -> None:
        self.connections: list[Connection] = []

    def buildProtocol(self, addr: Any) -> Connection:
        self.connections.append(Connection())
        return self.connections[-1]


class Connection(Protocol):
    def __init__(self) -> None:
        self.received, self.lost = b"", False

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any) -> None:
        self.lost = True


@pytest_twisted.async_yield_fixture
async def world() -> AsyncIterator[RealWorld]:
    world = RealWorld()
    yield world
    await world.finish()


async def site(world: RealWorld, directory: Path, listens: bool = True) -> tuple[Any, Program, int]:
    """A node before a program. @return: both, and the port."""
    node, program, path = world.node("node"), Program(), directory / "web.sock"
    if listens:
        world.ports.append(await tcp(f"haproxy:unix:{path}").listen(program))
    served = mesh_server(reactor, "ws:tcp:0:interface=127.0.0.1", behind=f"unix:{path}")
    return node, program, (await world.listen(node, served)).port


async def browser(port: int, data: bytes = REQUEST) -> Connection:
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    made: Connection = await connectProtocol(endpoint, Connection())
    made.transport.write(data)
    return made


async def test_a_request_arrives_as_it_was_sent_with_whose_it_is(world: RealWorld, tmp_path: Path) -> None:
    """No header is added or taken; the address is in the PROXY header; the mesh keeps no place for it."""
    node, program, port = await site(world, tmp_path)
    client = await browser(port)
    await until(lambda: program.connections and program.connections[0].received == REQUEST)
    [connection] = program.connections
    assert connection.transport.getPeer() == client.transport.getHost()
    assert node.gate.half_open == 0
    connection.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    await until(lambda: client.received.endswith(b"\r\n\r\nok"))
    client.transport.write(REQUEST)  # the connection is kept for the next one
    await until(lambda: connection.received == 2 * REQUEST)
    client.transport.loseConnection()
    await until(lambda: connection.lost)


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")  # Twisted's own call
async def test_head_and_body_in_two_records_of_tls(world: RealWorld, tmp_path: Path) -> None:
    """Which come in one packet: the second is there before the program behind is reached."""
    node, program, path = world.node("node"), Program(), tmp_path / "web.sock"
    world.ports.append(await tcp(f"haproxy:unix:{path}").listen(program))
    served, _ = Authority(tmp_path).endpoint("localhost")
    port = (await world.listen(node, mesh_server(reactor, f"ws:{served}", behind=f"unix:{path}"))).port
    endpoint = wrapClientTLS(CertificateOptions(), TCP4ClientEndpoint(reactor, "127.0.0.1", port))
    client: Any = await connectProtocol(endpoint, Connection())
    connection = client.transport._tlsConnection
    await until(lambda: connection.get_peer_certificate() is not None)
    head, _, body = REQUEST.partition(b"body")
    for part in (head, b"body", body):
        if part:
            connection.send(part)
    client.transport._flushSendBIO()
    await until(lambda: program.connections and program.connections[0].received == REQUEST)
    client.transport.loseConnection()
    await until(lambda: program.connections[0].lost)


async def test_links_come_in_at_the_same_port(world: RealWorld, tmp_path: Path) -> None:
    """A WebSocket of ours on any path is a link; the program hears nothing of it."""
    node, program, port = await site(world, tmp_path)
    other = world.node("other")
    endpoint = OpeningEndpoint(
        TCP4ClientEndpoint(reactor, "127.0.0.1", port), partial(WebSocketClient, "a.example", "/any/path")
    )
    await endpoint.connect(other.mesh.dialling())
    await until(lambda: node.link(other) and other.link(node))
    assert program.connections == []


async def test_much_waits_for_who_reads_slowly(world: RealWorld, tmp_path: Path) -> None:
    """Both ways: what one end does not read the other does not pour into this process; all arrives."""
    _, program, port = await site(world, tmp_path)
    client = await browser(port)
    await until(lambda: program.connections)
    [connection] = program.connections
    client.transport.pauseProducing()
    connection.transport.write(bytes(8_000_000))
    await until(lambda: connection.transport.dataBuffer or connection.transport._tempDataBuffer)
    client.transport.resumeProducing()
    await until(lambda: len(client.received) == 8_000_000)
    connection.transport.pauseProducing()
    client.transport.write(bytes(8_000_000))
    await until(lambda: client.transport.dataBuffer or client.transport._tempDataBuffer)
    connection.transport.resumeProducing()
    await until(lambda: len(connection.received) == 8_000_000 + len(REQUEST))
    connection.transport.loseConnection()
    await until(lambda: client.lost)


async def test_nobody_behind_is_a_bad_gateway(world: RealWorld, tmp_path: Path) -> None:
    """One answer, and closed."""
    _, _, port = await site(world, tmp_path, listens=False)
    client = await browser(port)
    await until(lambda: client.lost)
    assert client.received.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")


async def test_so_many_at_once(world: RealWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More are told so; when one ends there is room again."""
    monkeypatch.setattr(behind_module, "BEHIND_CONNECTIONS", 2)
    _, program, port = await site(world, tmp_path)
    first, second = await browser(port), await browser(port)
    await until(lambda: len(program.connections) == 2)
    third = await browser(port)
    await until(lambda: third.lost)
    assert third.received.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    first.transport.loseConnection()
    await until(lambda: first.lost)
    fourth = await browser(port)
    await until(lambda: len(program.connections) == 3)
    for each in (second, fourth):
        each.transport.loseConnection()


ADDRESSES = st.one_of(
    st.tuples(st.just(IPv4Address), st.ip_addresses(v=4).map(str)),
    st.tuples(st.just(IPv6Address), st.ip_addresses(v=6).map(str)),
)


@given(ADDRESSES, st.integers(0, 65535), ADDRESSES, st.integers(0, 65535))
def test_the_header_is_read_back(source: Any, port: int, target: Any, other: int) -> None:
    """By Twisted's own parser, with addresses and ports; IPv4 beside IPv6 is mapped."""
    peer, host = source[0]("TCP", source[1], port), target[0]("TCP", target[1], other)
    found, rest = V2Parser().feed(proxy_header(peer, host) + b"rest")
    assert rest == b"rest" and (found.source.port, found.destination.port) == (port, other)
    if source[0] is target[0]:
        hosts = [ip_address(each.host) for each in (found.source, found.destination)]
        assert hosts == [ip_address(source[1]), ip_address(target[1])]


def test_who_has_no_address_is_nobody() -> None:
    """A peer on a unix socket."""
    found, rest = V2Parser().feed(proxy_header(UNIXAddress(b""), UNIXAddress(b"/s")) + b"rest")
    assert found.source is None and rest == b"rest"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"behind": "tcp:1", "listen": ["ws:tcp:1"]}, "behind is unix:PATH"),
        ({"behind": "unix:/s"}, "behind needs a --listen ws:..."),
    ],
)
def test_what_cannot_stand_behind(options: dict[str, Any], said: str) -> None:
    """One line at the start."""
    with pytest.raises(ConfigurationError, match=said):
        read_configuration(None, {"state": "/s", **options})
