# SPDX-License-Identifier: MIT
"""The proxy at real sockets: curl and others lead through it into the mesh, and nowhere else."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from node.gateways.rig import CLOCK, Nodes
from streams.wires import Program, connect
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, UNIXServerEndpoint
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.internet.threads import deferToThread

from gmesh.errors import RequestRefused
from gmesh.node.gateways.http_requests import MAX_HEAD
from gmesh.node.gateways.proxy import HEAD_TIMEOUT, LINGER, MAX_WAITING, ProxyFactory

PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"


@asynccontextmanager
async def proxy(nodes: Nodes, path: Path | None = None, **options: Any) -> AsyncIterator[Any]:
    """A proxy of the node under test. @return: its port or path."""
    factory = ProxyFactory(options.pop("clock", CLOCK), nodes.here, **options)
    endpoint = (
        TCP4ServerEndpoint(CLOCK, 0, interface="127.0.0.1")
        if path is None
        else UNIXServerEndpoint(CLOCK, str(path))
    )
    port = await endpoint.listen(factory)
    yield port.getHost().port if path is None else path
    await port.stopListening()


def web(nodes: Nodes, service: str = "http") -> list[Program]:
    """A web server at the other node, of one page. @return: what it was asked."""
    asked: list[Program] = []

    def said(program: Program, data: bytes) -> None:
        if b"\r\n\r\n" in program.received:
            program.transport.write(PAGE)
            program.transport.loseConnection()

    def take(offer: Any) -> None:
        asked.append(Program(said))
        offer.accept(asked[-1])

    nodes.there.listen(service, take)
    return asked


pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")


async def curl(*arguments: str) -> tuple[str, str, int]:
    """What it prints, what it complains about, and its exit status."""
    command = ["curl", "-sS", "-m", "120", *arguments]
    done = await deferToThread(subprocess.run, command, env={"HOME": "/"}, capture_output=True, text=True)
    return done.stdout, done.stderr, done.returncode


WAYS = {
    "absolute form": ["-x", "http://127.0.0.1:{}"],
    "CONNECT": ["-p", "-x", "http://127.0.0.1:{}"],
    "SOCKS": ["-x", "socks5h://127.0.0.1:{}"],
}


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize(
    ("url", "service"), [("http://desk.gmesh/x", "http"), ("http://web.desk.gmesh:81/x", "web")]
)
async def test_curl_gets_a_page_of_another_node(nodes: Nodes, way: str, url: str, service: str) -> None:
    """By each of the three ways, by port and by the name of a service."""
    asked = web(nodes, service)
    async with proxy(nodes) as port:
        options = [option.format(port) for option in WAYS[way]]
        assert await curl(*options, url) == ("hello", "", 0)
    [program] = asked
    assert program.received.lower().startswith(b"get /x http/1.1\r\nhost: " + url.split("/")[2].encode())
    assert b"proxy-connection" not in program.received.lower()
    assert (b"connection: close\r\n" in program.received) is (way == "absolute form")


async def test_curl_over_a_unix_socket(nodes: Nodes, tmp_path: Path) -> None:
    """The port that no other user of this host can reach."""
    web(nodes)
    async with proxy(nodes, tmp_path / "proxy.sock") as path:
        assert await curl("-x", f"socks5h://localhost{path}", "http://desk.gmesh/") == ("hello", "", 0)


async def test_curl_sends_a_body(nodes: Nodes) -> None:
    """What follows the head of a request goes with it."""
    asked = web(nodes)
    async with proxy(nodes) as port:
        found = await curl("-x", f"http://127.0.0.1:{port}", "-d", "q=1", "http://desk.gmesh/")
    assert found[0] == "hello"
    assert asked[0].received.endswith(b"\r\n\r\nq=1")


OUTSIDE = ["example.com", "10.0.0.1", "localhost", "evil.gmesh.example.com", "127.0.0.1"]


@pytest.mark.parametrize("host", OUTSIDE)
async def test_it_is_no_open_proxy(nodes: Nodes, host: str) -> None:
    """Each way says no to a name that is not of the mesh, in words that help; nothing is dialled."""
    async with proxy(nodes) as port:
        out, _, _ = await curl("-x", f"http://127.0.0.1:{port}", f"http://{host}/")
        assert out == f"{host} is outside the mesh: names here are NODE.gmesh\n"
        _, err, status = await curl("-p", "-x", f"http://127.0.0.1:{port}", f"http://{host}/")
        assert (status, "403" in err) == (56, True)
        _, err, status = await curl("-x", f"socks5h://127.0.0.1:{port}", f"http://{host}/")
        assert (status, "(2)" in err or "(8)" in err) == (97, True)
    assert nodes.here.open_streams() == []


async def test_an_address_over_socks_is_said_not_to_be_served(nodes: Nodes) -> None:
    """curl --socks5 looks the name up itself, and sends what it found."""
    async with proxy(nodes) as port:
        _, err, status = await curl("--socks5", f"127.0.0.1:{port}", "http://192.0.2.1/")
        assert (status, "(8)" in err) == (97, True)


@pytest.mark.parametrize(
    ("reason", "status", "code"),
    [
        ("denied", "403", "(2)"),
        ("no-route", "503", "(3)"),
        ("unknown-node", "404", "(4)"),
        ("refused", "502", "(5)"),
    ],
)
async def test_why_the_mesh_refuses_is_passed_on(nodes: Nodes, reason: str, status: str, code: str) -> None:
    """In words over HTTP, in the nearest code over SOCKS."""
    nodes.here.refusing["desk", "http"] = (reason, "because of rule 3")
    async with proxy(nodes) as port:
        out, _, _ = await curl("-x", f"http://127.0.0.1:{port}", "-w", "%{http_code}", "http://desk.gmesh/")
        assert out == f"because of rule 3\n{status}"
        _, err, _ = await curl("-x", f"socks5h://127.0.0.1:{port}", "http://desk.gmesh/")
        assert code in err


async def test_a_refusal_is_read_though_the_question_goes_on(nodes: Nodes) -> None:
    """A close before the whole question was read would reset the connection, and the answer with it."""
    async with proxy(nodes) as port:
        program = await connect(port)
        program.transport.write(b"POST http://example.com/ HTTP/1.1\r\nContent-Length: 500000\r\n\r\n")
        program.transport.write(bytes(500_000))
        assert (await program.ended).startswith(b"HTTP/1.1 403 Forbidden\r\n")
        program.transport.loseConnection()
        await program.lost


async def test_the_script_for_browsers(nodes: Nodes) -> None:
    """It names the port that was asked, whatever the request calls it."""
    async with proxy(nodes) as port:
        out, _, status = await curl("-H", "Host: elsewhere", f"http://127.0.0.1:{port}/proxy.pac")
        assert status == 0
        assert f'"PROXY 127.0.0.1:{port}" : "DIRECT"' in out


async def test_who_may_not_dial_may_not_use_it(nodes: Nodes, tmp_path: Path) -> None:
    """Over a unix socket the kernel says who asks."""

    def admit(transport: Any) -> None:
        raise RequestRefused("forbidden", "nobody (uid 65534) may not write here")

    async with proxy(nodes, tmp_path / "proxy.sock", admit=admit) as path:
        program = await connect(path)
        program.transport.write(b"CONNECT desk.gmesh:80 HTTP/1.1\r\n\r\n")
        assert b"nobody (uid 65534) may not write here" in await program.ended
        program.transport.loseConnection()
        await program.lost


def waiting(clock: Clock) -> tuple[ProxyFactory, Any]:
    """A connection that has said nothing, on a clock of its own."""
    factory = ProxyFactory(clock, Nodes().here)
    protocol: Any = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
    transport: Any = StringTransportWithDisconnection()
    transport.protocol = protocol
    transport.loseWriteConnection = lambda: None
    transport.abortConnection = transport.loseConnection
    protocol.makeConnection(transport)
    return factory, transport


@pytest.mark.parametrize("said", [b"", b"GET http://desk.gmesh/ HTTP/1.1\r\n", b"\x05", b"\x05\x01\x00\x05"])
def test_who_does_not_say_where_to_is_not_waited_for(said: bytes) -> None:
    """Ten seconds, and a little to read why."""
    clock = Clock()
    factory, transport = waiting(clock)
    if said:
        transport.protocol.dataReceived(said)
    clock.advance(HEAD_TIMEOUT - 0.1)
    assert transport.connected
    clock.advance(0.1)
    assert (b"408" in transport.value()) is (said[:1] != b"\x05")
    clock.advance(LINGER)
    assert not transport.connected
    assert factory.waiting == set()
    assert clock.getDelayedCalls() == []


def test_a_head_that_does_not_end_is_refused() -> None:
    """Not kept for ever."""
    clock = Clock()
    _, transport = waiting(clock)
    transport.protocol.dataReceived(b"GET http://desk.gmesh/ HTTP/1.1\r\nX: " + b"x" * MAX_HEAD)
    assert transport.value().startswith(b"HTTP/1.1 431 ")
    clock.advance(LINGER)


def test_only_so_many_may_lead_nowhere() -> None:
    """One more is closed at once; what is there is not touched."""
    factory, transport = waiting(Clock())
    others: Any = factory.waiting
    others |= {object() for _ in range(MAX_WAITING - 1)}
    assert factory.buildProtocol(None) is None
    assert transport.connected
    others.pop()
    assert factory.buildProtocol(None) is not None


async def test_a_connection_too_many_is_told_so_whichever_port_it_came_by(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And counted; those that lead somewhere go on, and make room when they end, or when nobody was there."""
    monkeypatch.setattr("gmesh.node.gateways.proxy.MAX_PROXIED", 1)
    taken, counted = [Program(), Program()], list[str]()
    offers = iter(taken)
    nodes.there.listen("tcp-22", lambda offer: offer.accept(next(offers)))
    shared: dict[str, Any] = {"joins": set(), "count": counted.append}
    ask, yes = b"CONNECT desk.gmesh:22 HTTP/1.1\r\n\r\nx", b"HTTP/1.1 200 Connected\r\n\r\n"
    async with proxy(nodes, **shared) as first, proxy(nodes, **shared) as second:
        out, _, _ = await curl("-x", f"http://127.0.0.1:{first}", "http://desk.gmesh/")
        assert out == "desk has no service http\n"
        program = await connect(first)
        program.transport.write(ask)
        assert await program.until(len(yes)) == yes
        assert counted == []
        out, _, _ = await curl("-x", f"http://127.0.0.1:{second}", "-w", "%{http_code}", "http://desk.gmesh/")
        assert out == "programs have 1 connections through the proxy already\n503"
        _, err, _ = await curl("-x", f"socks5h://127.0.0.1:{second}", "http://desk.gmesh/")
        assert "(1)" in err
        assert counted == ["proxy-full"] * 2
        program.transport.abortConnection()
        await taken[0].lost
        program = await connect(second)
        program.transport.write(ask)
        assert await program.until(len(yes)) == yes
        program.transport.abortConnection()
        await taken[1].lost
    assert shared["joins"] == set()


@pytest.mark.parametrize(
    ("host", "anyone", "served"),
    [
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("::ffff:127.0.0.1", False, True),
        ("192.0.2.1", False, False),
        ("::ffff:192.0.2.1", False, False),
        ("fe80::1%eth0", False, False),
        ("192.0.2.1", True, True),
    ],
)
def test_other_hosts_are_served_only_where_that_is_said(host: str, anyone: bool, served: bool) -> None:
    """Also where the service manager passed a port that is open to all."""
    factory = ProxyFactory(Clock(), Nodes().here, anyone=lambda: anyone)
    address = (IPv6Address if ":" in host else IPv4Address)("TCP", host, 1)
    assert (factory.buildProtocol(address) is not None) is served


async def test_a_stream_that_breaks_is_a_reset_of_the_program(nodes: Nodes) -> None:
    """Half a page is not taken for a page."""
    opened: Deferred[Program] = Deferred()

    def take(offer: Any) -> None:
        program = Program()
        offer.accept(program)
        opened.callback(program)

    nodes.there.listen("http", take)
    async with proxy(nodes) as port:
        program = await connect(port)
        program.transport.write(b"CONNECT desk.gmesh:80 HTTP/1.1\r\n\r\nearly")
        far = await opened
        assert await far.until(5) == b"early"
        nodes.there.break_all("revoked")
        assert isinstance(await program.lost, ConnectionLost)
        assert program.received == b"HTTP/1.1 200 Connected\r\n\r\n"
